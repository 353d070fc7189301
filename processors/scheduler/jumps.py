"""What a jump of the clock that stamps inputs changes: all that is compared with the time. Pure.

No time passed in a jump. So every deadline, and every moment that a duration is counted from, moves
with it, of all pools of the partition; and it is no part of anybody's age.
"""

from datetime import datetime, timedelta

from processors.scheduler.state import EPOCH, Execution, Ledger, Pool, Reservation

LATEST = datetime.max.replace(tzinfo=EPOCH.tzinfo)


def shift(ledger: Ledger, by_s: float) -> None:
    """Move everything in `ledger` that is compared with the time by `by_s` into the future."""
    for command_id, at in ledger.known.items():
        ledger.known[command_id] = _later(at, by_s)
    for pool in ledger.pools.values():
        _shift_pool(pool, by_s)


def _shift_pool(pool: Pool, by_s: float) -> None:
    for reservation in pool.reservations.values():
        _shift_reservation(reservation, by_s)
    for execution in pool.executions.values():
        _shift_execution(execution, by_s)
    for bench in pool.benches.values():
        if bench.cleaning is not None:
            bench.cleaning.since = _later(bench.cleaning.since, by_s)
    for ended in pool.ended.values():
        ended.at = _later(ended.at, by_s)


def _shift_reservation(reservation: Reservation, by_s: float) -> None:
    reservation.requested_at = _later(reservation.requested_at, by_s)
    if reservation.wait_until is not None:
        reservation.wait_until = _later(reservation.wait_until, by_s)
    if reservation.lease_until is not None:
        reservation.lease_until = _later(reservation.lease_until, by_s)


def _shift_execution(execution: Execution, by_s: float) -> None:
    """Also when it was submitted and began: its result says how long it took, not when."""
    execution.submitted_at = _later(execution.submitted_at, by_s)
    if execution.wait_until is not None:
        execution.wait_until = _later(execution.wait_until, by_s)
    if execution.not_before != EPOCH:
        execution.not_before = _later(execution.not_before, by_s)
    if execution.started_at is not None:
        execution.started_at = _later(execution.started_at, by_s)
    if execution.assigned_at is not None:
        execution.assigned_at = _later(execution.assigned_at, by_s)


def _later(at: datetime, by_s: float) -> datetime:
    """Return `at` and `by_s` more, or the latest time there is."""
    try:
        return at + timedelta(seconds=by_s)
    except OverflowError:
        return LATEST


def age(ledger: Ledger, since: datetime, until: datetime) -> timedelta:
    """Return how much time passed between two stamps: all but what clocks have jumped meanwhile."""
    passed = until - since
    for jump in ledger.jumps:
        begin = max(since, jump.at - timedelta(seconds=jump.by_s))
        passed -= max(timedelta(0), min(until, jump.at) - begin)
    return passed
