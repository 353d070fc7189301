"""Who can be granted now: by priority, then age; all benches of an ask or none.

A pure function of state and time. It returns the events of one grant; the caller applies them and
asks again until nothing more can be granted.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from events.facts import BenchHeld, Event, ExecutionAssigned, ReservationGranted
from events.matching import match_all
from events.shared import Grant
from processors.scheduler.state import Bench, Execution, Pool, Reservation, Worker


def place(pool: Pool, now: datetime) -> Sequence[Event]:
    """Return the events of the next grant of `pool`, or [] if nobody can be served."""
    for _, ask_id in _candidates(pool, now):
        if reservation := pool.reservations.get(ask_id):
            granted = _grant(pool, reservation, now)
        else:
            granted = _assign(pool, pool.executions[ask_id])
        if granted:
            return granted
    return []


def _candidates(pool: Pool, now: datetime) -> list[tuple[tuple[int, int], str]]:
    """Return the first of each class and who may try again after a backoff, in order."""
    ready = [
        ((-execution.priority, execution.order), execution.id)
        for execution in (pool.executions[each] for each in sorted(pool.backoff))
        if execution.not_before <= now
    ]
    heads = [
        ((entry[0], entry[1]), entry[2])
        for entry, key in pool.queue.heads()
        if pool.free or (key[0] == "run" and key[1])
    ]
    return sorted(heads + ready)


def _grant(pool: Pool, reservation: Reservation, now: datetime) -> Sequence[Event]:
    free = [
        [name for name in pool.matching(selector) if name in pool.free]
        for selector in reservation.selectors
    ]
    chosen = match_all(free)
    if chosen is None:
        return []
    grants = tuple(Grant(bench=name, fence=pool.benches[name].fence + 1) for name in chosen)
    granted = ReservationGranted(
        reservation_id=reservation.id,
        grants=grants,
        lease_until=now + timedelta(seconds=reservation.duration_s),
    )
    held = (_held(grant, "reservation", reservation.id) for grant in grants)
    return [granted, *held]


def _held(grant: Grant, kind: str, holder_id: str) -> BenchHeld:
    return BenchHeld(bench=grant.bench, fence=grant.fence, holder_kind=kind, holder_id=holder_id)


def _assign(pool: Pool, execution: Execution) -> Sequence[Event]:
    found = _bench_and_worker(pool, execution)
    if found is None:
        return []
    bench, worker = found
    grant = Grant(bench=bench.spec.name, fence=bench.fence + 1)
    assigned = ExecutionAssigned(
        execution_id=execution.id,
        attempt=execution.attempt + 1,
        bench=grant.bench,
        fence=grant.fence,
        worker=worker.id,
        epoch=worker.epoch,
        life=worker.life,
    )
    if execution.reservation_id is not None:
        return [assigned]
    return [assigned, _held(grant, "execution", execution.id)]


def _bench_and_worker(pool: Pool, execution: Execution) -> tuple[Bench, Worker] | None:
    """Return the first fit: of what failed last, bench and worker come last.

    A worker with faults of its own is passed over while another bench has one without.
    """
    names = [name for name in pool.matching(execution.selector) if _is_open(pool, execution, name)]
    others = [name for name in names if name != execution.avoid_bench]
    last = [name for name in names if name == execution.avoid_bench]
    avoid = execution.avoid_worker
    if avoid or any(worker.faults for worker in pool.workers.values()):
        found = (
            _first(pool, others, avoid=avoid, is_wary=True)
            or _first(pool, others, avoid=avoid)
            or _first(pool, last, avoid=avoid)
        )
        if found is not None:
            return found
    return _first(pool, others + last)


def _first(
    pool: Pool, names: Sequence[str], *, avoid: str = "", is_wary: bool = False
) -> tuple[Bench, Worker] | None:
    for name in names:
        bench = pool.benches[name]
        worker = pool.worker_for(bench, avoid=avoid, is_wary=is_wary)
        if worker is not None:
            return bench, worker
    return None


def _is_open(pool: Pool, execution: Execution, name: str) -> bool:
    if execution.reservation_id is None:
        return name in pool.free
    reservation = pool.reservations.get(execution.reservation_id)
    if reservation is None or name not in reservation.benches:
        return False
    bench = pool.benches[name]
    return bench.holder == reservation.id and bench.is_usable
