"""What the API needs of the rest, as protocols. Declares; does nothing.

The read model is a projection of the journal, the feed tells what it has just applied, the
artifact source gives back stored files. Wiring is by hand, in the role that serves the API.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from api.rows import (
    ArtifactRow,
    BenchRow,
    CaseRow,
    CommandRow,
    ExecutionRow,
    PoolRow,
    ReservationRow,
    WorkerRow,
)
from events.log import Position
from events.message import EventMessage
from events.selector import Selector

RowT = TypeVar("RowT", covariant=True)


class InvalidCursor(ValueError):
    """Raised when a cursor was not made by this read model."""


class ArtifactMissing(Exception):
    """Raised when the store no longer has a file that the journal names."""


@dataclass(frozen=True, slots=True)
class Page(Generic[RowT]):
    """A part of a list, and where it goes on (None: nowhere)."""

    items: Sequence[RowT]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFilter:
    """Which benches; None or empty: any."""

    pool: str | None = None
    states: tuple[str, ...] = ()
    selector: Selector = Selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """Which reservations; None or empty: any."""

    pool: str | None = None
    statuses: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions; None or empty: any."""

    pool: str | None = None
    statuses: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the projection stands. `behind` counts records not applied yet."""

    is_live: bool
    behind: int
    detail: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An event that the read model has applied."""

    position: Position
    message: EventMessage


class Subscription(Protocol):
    """One listener of the feed."""

    async def next(self, *, wait_s: float) -> Sequence[Change]:
        """Return what was applied since, in order; [] after `wait_s`.

        Raises `FeedOverflow` if more waited than may: some changes were dropped.
        """
        ...


class FeedOverflow(Exception):
    """Raised when a listener of the feed was too slow and changes were dropped."""


class Feed(Protocol):
    """Tells what the read model has just applied."""

    def subscribe(self) -> AbstractContextManager[Subscription]:
        """Listen from now on."""
        ...


class ArtifactSource(Protocol):
    """Gives back stored files."""

    def read(self, uri: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`. Raises `ArtifactMissing`."""
        ...
