"""What the API needs of the projection, as protocols. Declares; does nothing.

`projections` keeps them; the tests of the API keep a smaller one in memory.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from events.log import Position
from projections.feed import Subscription
from projections.rows import (
    ArtifactRow,
    BenchFilter,
    BenchRow,
    CaseRow,
    CommandRow,
    ExecutionFilter,
    ExecutionRow,
    Health,
    Page,
    PoolRow,
    ReservationFilter,
    ReservationRow,
    Slice,
    WorkerRow,
)


class ReadModel(Protocol):
    """The read models, each call one consistent answer."""

    async def wait_for(self, position: Position, *, wait_s: float) -> bool:
        """Return True once `position` is applied, False if it was not within `wait_s`."""
        ...

    async def wait_for_command(self, command_id: str, *, wait_s: float) -> CommandRow | None:
        """Return the outcome of a command once all of its events are applied; None: not yet."""
        ...

    async def health(self) -> Health:
        """Return how the projection stands."""
        ...

    async def command(self, command_id: str) -> CommandRow | None:
        """Return the outcome of a command."""
        ...

    async def pools(self) -> Sequence[PoolRow]:
        """Return every pool, by name."""
        ...

    async def benches(self, which: BenchFilter, part: Slice) -> Page[BenchRow]:
        """Return benches by pool and name."""
        ...

    async def bench(self, pool: str, name: str) -> BenchRow | None:
        """Return one bench."""
        ...

    async def workers(self, pool: str | None, part: Slice) -> Page[WorkerRow]:
        """Return workers by pool and id."""
        ...

    async def reservations(self, which: ReservationFilter, part: Slice) -> Page[ReservationRow]:
        """Return reservations, newest first."""
        ...

    async def reservation(self, reservation_id: str) -> ReservationRow | None:
        """Return one reservation."""
        ...

    async def executions(self, which: ExecutionFilter, part: Slice) -> Page[ExecutionRow]:
        """Return executions, newest first."""
        ...

    async def execution(self, execution_id: str) -> ExecutionRow | None:
        """Return one execution."""
        ...

    async def cases(self, execution_id: str, attempt: int | None, part: Slice) -> Page[CaseRow]:
        """Return test cases of one attempt, or of all, in the order they were recorded."""
        ...

    async def artifacts(self, execution_id: str, attempt: int | None) -> Sequence[ArtifactRow]:
        """Return the files kept of one attempt, or of all."""
        ...


class Projector(Protocol):
    """Keeps the read model level with the journal."""

    async def run(self) -> None:
        """Apply events until cancelled. Raises only when it cannot go on at all."""
        ...


class Feed(Protocol):
    """Tells what the read model has just applied."""

    def subscribe(self) -> AbstractContextManager[Subscription]:
        """Listen from now on."""
        ...
