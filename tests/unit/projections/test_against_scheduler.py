"""Random histories of the real scheduler: what the read models show is what its state says."""

import asyncio

import pytest

from events.message import EventMessage
from events.topics import Topics
from processors.scheduler.state import Bench, Pool
from projections import queries
from projections.rows import BenchFilter, ExecutionFilter, ReservationFilter, Slice, WorkerFilter
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store
from tests.unit.processors.scheduler.test_random_histories import Chaos
from tests.unit.projections.given import project
from tests.unit.projections.journal_log import JournalLog

ALL = Slice(limit=10_000)
STEPS = 300


def state_of(bench: Bench) -> str:
    if bench.quarantine:
        return "quarantined"
    if bench.cleaning is not None:
        return "cleaning"
    if bench.holder:
        return "held"
    return "idle" if bench.is_online else "offline"


def check_benches(store: Store, pool: Pool) -> None:
    rows = {row.name: row for row in queries.benches(store.db, BenchFilter(), ALL).items}
    assert set(rows) == set(pool.benches)
    for name, bench in pool.benches.items():
        row = rows[name]
        assert (row.state, row.fence) == (state_of(bench), bench.fence)
        assert (row.holder_id or "") == bench.holder
        assert (row.state == "idle") == (name in pool.free)


def check_asks(store: Store, pool: Pool) -> None:
    live = ExecutionFilter(statuses=("queued", "assigned", *("provisioning", "running")))
    live = ExecutionFilter(statuses=(*live.statuses, "collecting", "tearing_down"))
    executions = {row.id: row for row in queries.executions(store.db, live, ALL).items}
    assert set(executions) == set(pool.executions)
    for name, execution in pool.executions.items():
        row = executions[name]
        assert (row.status == "queued") == (execution.state in ("waiting", "backoff"))
        assert len(row.attempts) == execution.attempt
        assert row.started_at == execution.started_at
        if execution.state == "active":
            attempt = row.attempts[-1]
            assert attempt.started_at == execution.assigned_at
            assert (attempt.bench, attempt.worker) == (execution.bench, execution.worker)
            assert (attempt.fence, attempt.step) == (execution.fence, execution.step)
            cases = queries.cases(store.db, name, execution.attempt, ALL).items
            assert len(cases) == execution.cases
    queued = ReservationFilter(statuses=("queued", "granted"))
    reservations = {r.id: r for r in queries.reservations(store.db, queued, ALL).items}
    assert set(reservations) == set(pool.reservations)
    for name, reservation in pool.reservations.items():
        shown = reservations[name]
        assert (shown.status == "granted") == reservation.is_granted
        assert tuple(grant.bench for grant in shown.benches) == reservation.benches
        assert shown.lease_until == reservation.lease_until
        assert shown.wait_until == reservation.wait_until
    check_queue(store, pool)


def check_queue(store: Store, pool: Pool) -> None:
    """Positions count up from 1 in the order in which the scheduler looks at the asks."""
    asks = [
        *(r for r in pool.reservations.values() if not r.is_granted),
        *(
            e
            for e in pool.executions.values()
            if e.state in ("waiting", "backoff") and e.reservation_id is None
        ),
    ]
    due = [ask.id for ask in sorted(asks, key=lambda ask: (-ask.priority, ask.order))]
    executions = queries.executions(store.db, ExecutionFilter(statuses=("queued",)), ALL).items
    which = ReservationFilter(statuses=("queued",))
    shown = {
        row.id: row.queue_position
        for row in (
            *(row for row in executions if row.reservation_id is None),
            *queries.reservations(store.db, which, ALL).items,
        )
    }
    assert shown == {name: place for place, name in enumerate(due, start=1)}


def check_workers(store: Store, pool: Pool) -> None:
    rows = queries.workers(store.db, WorkerFilter(), ALL).items
    live = {row.worker: row for row in rows if row.state not in ("lost", "gone")}
    assert set(live) == set(pool.workers)
    for name, worker in pool.workers.items():
        assert (live[name].epoch, live[name].slots) == (worker.epoch, worker.slots)
        assert (live[name].state == "draining") == worker.is_draining
        is_suspended = bool(worker.suspended) and not worker.is_draining
        assert (live[name].state == "suspended") == is_suspended
        assert (live[name].reason == worker.why_suspended) or not is_suspended


@pytest.mark.parametrize("seed", range(12))
def test_the_read_models_show_the_state_of_the_scheduler(seed: int) -> None:
    chaos = Chaos(seed)
    applied = 0
    with Store(None) as store:
        for step in range(STEPS):
            chaos.step()
            if step % 20 == 19:
                project(store, chaos.history.events[applied:])
                applied = len(chaos.history.events)
                pool = chaos.history.ledger.pools["lab"]
                check_benches(store, pool)
                check_asks(store, pool)
                check_workers(store, pool)
        check_results(store, chaos)
        check_outcomes(store, chaos.history.events)
    assert applied > STEPS / 3


def check_results(store: Store, chaos: Chaos) -> None:
    """What the public contract says of an end is what the read model shows."""
    finished = ExecutionFilter(statuses=("finished",))
    rows = {row.id: row for row in queries.executions(store.db, finished, ALL).items}
    assert set(rows) == {result.execution_id for result in chaos.history.results}
    for result in chaos.history.results:
        row = rows[result.execution_id]
        assert (row.verdict, row.code, row.reason) == (result.verdict, result.code, result.reason)
        assert all(attempt.status == "finished" for attempt in row.attempts)


def check_outcomes(store: Store, events: list[EventMessage]) -> None:
    """Each command that left an event has one outcome, named by the command that was sent."""
    firsts = {
        m.meta.causation_id: m for m in reversed(events) if m.meta.request_hash and not m.meta.index
    }
    words = set()
    for command_id, first in firsts.items():
        row = queries.command(store.db, command_id)
        assert row is not None
        refused = type(first.body).__name__ == "CommandRejected"
        assert (row.status == "rejected") == refused
        assert row.offset == first.meta.seq + first.meta.count - 1
        words.add(row.type)
    assert words <= {
        "ApplyBenches",
        "QuarantineBench",
        "RestoreBench",
        "RequestReservation",
        "ExtendReservation",
        "ReleaseReservation",
        "SubmitExecution",
        "CancelExecution",
        "ResumeWorker",
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_two_projections_of_one_log_are_equal_however_they_were_cut(seed: int) -> None:
    chaos = Chaos(seed)

    async def scenario() -> None:
        log = JournalLog()
        with Store(None) as growing, Store(None) as late:
            projector = Projector(log, Topics(), growing)
            task = asyncio.create_task(projector.run())
            written = 0
            for _ in range(STEPS):
                chaos.step()
                new = chaos.history.events[written:]
                written += len(new)
                if new:
                    assert await projector.wait_for(log.write(new), 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            other = Projector(log, Topics(), late)
            task = asyncio.create_task(other.run())
            assert await other.caught_up(10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert written > STEPS / 3
            assert fingerprint(growing.db) == fingerprint(late.db)

    asyncio.run(scenario())
