"""What the pages show, gathered from the read models. Decides no looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from api.limits import DASHBOARD_BENCHES_MAX, DASHBOARD_CASES_MAX, DASHBOARD_ROWS_MAX
from api.models.answers import Artifact
from api.routes.artifacts import answer_of
from api.service import Service
from projections.rows import (
    BenchFilter,
    BenchRow,
    CaseRow,
    ExecutionFilter,
    ExecutionRow,
    PoolRow,
    ReservationFilter,
    ReservationRow,
    Slice,
    WorkerFilter,
    WorkerRow,
)

ACTIVE = ("assigned", "provisioning", "running", "collecting", "tearing_down")
STATES = ("idle", "held", "cleaning", "offline", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """A pool with its benches and workers."""

    pool: PoolRow
    benches: Sequence[BenchRow]
    workers: Sequence[WorkerRow]
    hidden: int
    """Benches over the limit of the page."""

    @property
    def counts(self) -> Sequence[tuple[str, int]]:
        """Return how many benches are in each state that occurs."""
        counted = self.pool.benches_by_state
        known = [(state, counted[state]) for state in STATES if counted.get(state)]
        return [*known, *((s, n) for s, n in sorted(counted.items()) if s not in STATES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The whole lab at one moment."""

    now: datetime
    pools: Sequence[PoolView]
    running: Sequence[ExecutionRow]
    waiting: Sequence[ExecutionRow]
    asked: Sequence[ReservationRow]
    granted: Sequence[ReservationRow]
    recent: Sequence[ExecutionRow]
    failure: str | None
    clock: str = ""
    """What is wrong with this machine's clock; empty: nothing."""

    def total(self, state: str | None = None) -> int:
        """Return how many benches there are, of one state or in all."""
        return sum(
            count
            for view in self.pools
            for name, count in view.pool.benches_by_state.items()
            if state in (None, name)
        )

    @property
    def active(self) -> int:
        """Return how many executions are on a bench."""
        return sum(view.pool.executions_active for view in self.pools)

    @property
    def queued(self) -> int:
        """Return how many asks wait."""
        return sum(
            view.pool.executions_queued + view.pool.reservations_queued for view in self.pools
        )

    @property
    def workers(self) -> int:
        """Return how many workers serve."""
        return sum(view.pool.workers for view in self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionView:
    """One execution with all that is known of it."""

    now: datetime
    execution: ExecutionRow
    cases: Sequence[CaseRow]
    has_more_cases: bool
    artifacts: Sequence[Artifact]


async def overview_view(service: Service) -> Overview:
    """Return the lab as it is now."""
    reads = service.reads
    few = Slice(limit=DASHBOARD_ROWS_MAX)
    pools = [await _pool(service, pool) for pool in await reads.pools()]
    waiting = await reads.executions(ExecutionFilter(statuses=("queued",)), few)
    running = await reads.executions(ExecutionFilter(statuses=ACTIVE), few)
    recent = await reads.executions(ExecutionFilter(statuses=("finished",)), few)
    asked = await reads.reservations(ReservationFilter(statuses=("queued",)), few)
    granted = await reads.reservations(ReservationFilter(statuses=("granted",)), few)
    clock = service.clock.measure()
    return Overview(
        now=service.clock.now(),
        pools=pools,
        running=running.items,
        waiting=waiting.items,
        asked=asked.items,
        granted=granted.items,
        recent=recent.items,
        failure=service.failure,
        clock=clock.text() if clock.is_off else "",
    )


async def _pool(service: Service, pool: PoolRow) -> PoolView:
    benches = await service.reads.benches(
        BenchFilter(pool=pool.pool), Slice(limit=DASHBOARD_BENCHES_MAX)
    )
    live = WorkerFilter(pool=pool.pool, states=("online", "suspended", "draining"))
    workers = await service.reads.workers(live, Slice(limit=DASHBOARD_ROWS_MAX))
    total = sum(pool.benches_by_state.values())
    return PoolView(
        pool=pool,
        benches=benches.items,
        workers=workers.items,
        hidden=max(0, total - len(benches.items)),
    )


async def execution_view(service: Service, execution_id: str) -> ExecutionView | None:
    """Return one execution as it is now; None: there is none."""
    row = await service.reads.execution(execution_id)
    if row is None:
        return None
    cases: Sequence[CaseRow] = ()
    has_more = False
    if row.attempts:
        last = row.attempts[-1].number
        part = Slice(limit=DASHBOARD_CASES_MAX)
        found = await service.reads.cases(row.id, last, part)
        order = {"error": 0, "failed": 1, "skipped": 3}
        cases = sorted(found.items, key=lambda case: order.get(case.status, 2))
        has_more = found.next_cursor is not None
    artifacts = [answer_of(row.id, each) for each in await service.reads.artifacts(row.id, None)]
    return ExecutionView(
        now=service.clock.now(),
        execution=row,
        cases=cases,
        has_more_cases=has_more,
        artifacts=artifacts,
    )
