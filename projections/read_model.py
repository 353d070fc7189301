"""The read models as a server asks for them: every call one consistent answer.

Never waits on the database: a call reads on the loop, between two batches of the projector.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from events.log import Position
from projections import dead_letters, execution_queries, pools, queries
from projections.journal import happened_at
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
    SettledRow,
    Slice,
    SuiteRow,
    WorkerFilter,
    WorkerRow,
)
from projections.runtime import IsWanted, Projector, any_outcome


class ReadModel:
    """Queries over what a projector keeps, and its waits."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._store = projector.store

    async def wait_for(self, position: Position, *, wait_s: float) -> bool:
        """Return True once `position` is applied, False if it was not within `wait_s`."""
        return await self._projector.wait_for(position, wait_s)

    async def wait_for_command(
        self, command_id: str, *, wait_s: float, is_wanted: IsWanted = any_outcome
    ) -> CommandRow | None:
        """Return the outcome of a command once all of its events are applied; None: not yet."""
        return await self._projector.wait_for_command(command_id, wait_s, is_wanted)

    async def knows(self, pool: str, since: datetime, *, wait_s: float) -> bool:
        """Return True once all that happened to `pool` before `since` is applied, False if it was
        not within `wait_s`.
        """
        return await self._projector.knows(pool, since, wait_s)

    async def health(self) -> Health:
        """Return how the projection stands."""
        return await self._projector.health()

    def newest_at(self) -> datetime | None:
        """Return when the newest fact that is applied happened, to the millisecond; None: none."""
        known = (happened_at(mark.event_id) for mark in self._store.marks.values())
        return max((at for at in known if at is not None), default=None)

    async def command(self, command_id: str) -> CommandRow | None:
        """Return the outcome of a command."""
        return queries.command(self._store.db, command_id)

    async def pools(self) -> Sequence[PoolRow]:
        """Return every pool, by name."""
        return pools.pools(self._store.db)

    async def benches(self, which: BenchFilter, part: Slice) -> Page[BenchRow]:
        """Return benches by pool and name."""
        return queries.benches(self._store.db, which, part)

    async def bench(self, pool: str, name: str) -> BenchRow | None:
        """Return one bench."""
        return queries.bench(self._store.db, pool, name)

    async def workers(self, which: WorkerFilter, part: Slice) -> Page[WorkerRow]:
        """Return workers by pool and id."""
        return queries.workers(self._store.db, which, part)

    async def worker(self, pool: str, name: str) -> WorkerRow | None:
        """Return one worker."""
        return queries.worker(self._store.db, pool, name)

    async def reservations(self, which: ReservationFilter, part: Slice) -> Page[ReservationRow]:
        """Return reservations, newest first."""
        return queries.reservations(self._store.db, which, part)

    async def reservation(self, reservation_id: str) -> ReservationRow | None:
        """Return one reservation."""
        return queries.reservation(self._store.db, reservation_id)

    async def executions(self, which: ExecutionFilter, part: Slice) -> Page[ExecutionRow]:
        """Return executions, newest first."""
        return queries.executions(self._store.db, which, part)

    async def execution(self, execution_id: str) -> ExecutionRow | None:
        """Return one execution."""
        return queries.execution(self._store.db, execution_id)

    async def cases(self, execution_id: str, attempt: int | None, part: Slice) -> Page[CaseRow]:
        """Return test cases of one attempt, or of all, in the order they were recorded."""
        return queries.cases(self._store.db, execution_id, attempt, part)

    async def suites(self, execution_id: str, attempt: int) -> Sequence[SuiteRow]:
        """Return the suites of an attempt, counted, in the order their first case was recorded."""
        return execution_queries.suites(self._store.db, execution_id, attempt)

    async def cases_of(
        self, execution_id: str, attempt: int, suite: str, first: int, limit: int
    ) -> tuple[Sequence[CaseRow], int]:
        """Return cases of a suite from number `first` on, and the number that follows."""
        return execution_queries.cases_of(
            self._store.db, execution_id, attempt, suite, first, limit
        )

    async def artifacts(self, execution_id: str, attempt: int | None) -> Sequence[ArtifactRow]:
        """Return the files kept of one attempt, or of all."""
        return queries.artifacts(self._store.db, execution_id, attempt)

    async def settled(self, letter_ids: Iterable[str]) -> Mapping[str, SettledRow]:
        """Return how dead letters were settled; one that is missing is open."""
        return dead_letters.settled(self._store.db, letter_ids)
