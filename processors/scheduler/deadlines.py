"""Decides what the passing of time brings. Pure: a tick carries the time.

Deadlines of workers are durations on the runtime's monotonic clock, counted from when they were
last heard; all others are times in state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from events.codes import fault_of
from events.facts import (
    AttemptFinished,
    BenchCleaning,
    BenchQuarantined,
    Event,
    ExecutionFinished,
    ReservationCancelled,
    ReservationExpired,
    WorkerLost,
)
from events.shared import AttemptRef, StepPolicy
from events.tasks import StopAttempt
from processors.scheduler.decision import Effect, Order, Tick
from processors.scheduler.executions import NO_TOTALS, end_early
from processors.scheduler.state import Execution, Ledger, Pool, Unnamed, Worker

WORKER_DEADLINE_S = 10.0
"""A worker not heard of for this long is lost. Its own deadline is shorter: it gave up before."""
ATTEMPT_GRACE_S = 900.0
"""What all but the run may take, with a worker's own limits, before an attempt is given up.

A bench that sets limits for its steps gets that much more. A test adds up what a worker may take.
"""
STEP_S_DEFAULT = 240.0
"""The longest limit a worker keeps for one try of a step whose bench sets none."""
STEP_CANCEL_S = 5.0
"""What a worker gives a try over its limit to clean up."""
UNNAMED_S = 20.0
"""An attempt that its worker's heartbeats do not name for this long is not running there.

A worker reads its tasks within `poll_s` and its own deadline, or begins a new life: less than half.
"""
UNNAMED_BEATS_MIN = 3
"""So many heartbeats must have said so."""
ATTEMPT_UNKNOWN = "attempt_unknown"
"""Code of an attempt that its worker does not run, and nobody knows since when."""
CLEANING_S_MAX = 300.0
"""How long a worker may take to clean up before the bench is quarantined."""
NO_BENCH = "no bench was free in the time it was to wait"


def decide_tick(ledger: Ledger, pool: Pool, tick: Tick) -> Iterator[Effect]:
    """Yield what of `pool` is due, one by one.

    The caller applies each, with all it leads to, before it asks for the next: what an earlier
    one ended is not due any more.
    """
    yield from _waits(pool, tick.now)
    yield from _leases(pool, tick.now)
    yield from _lost_workers(ledger, pool, tick.monotonic_s)
    yield from _unnamed_attempts(ledger, pool, tick.monotonic_s)
    yield from _overdue_attempts(pool, tick.now)
    yield from _overdue_cleanings(pool, tick.now)


Value = TypeVar("Value")


def _live(things: Mapping[str, Value]) -> Iterator[Value]:
    """Yield each thing there is now that is still there when its turn comes."""
    for key in tuple(things):
        thing = things.get(key)
        if thing is not None:
            yield thing


def _waits(pool: Pool, now: datetime) -> Iterator[Event]:
    for reservation in _live(pool.reservations):
        wait_until = reservation.wait_until
        if not reservation.is_granted and wait_until is not None and wait_until <= now:
            yield ReservationCancelled(
                reservation_id=reservation.id,
                code="wait_timed_out",
                reason=NO_BENCH,
            )
    for execution in _live(pool.executions):
        if execution.wait_until is None:
            continue
        if execution.state == "waiting" and execution.wait_until <= now:
            yield end_early(execution, "wait_timed_out", NO_BENCH)
        elif execution.state == "backoff":
            wait = execution.wait_until - execution.submitted_at
            if execution.not_before + wait <= now:
                yield _end_without_another(execution)


def _end_without_another(execution: Execution) -> Event:
    """Return the end that the last attempt gave: no bench came free for another one."""
    last = execution.last
    assert last is not None, "what is tried again was tried before"
    return ExecutionFinished(
        execution_id=execution.id,
        verdict=last.verdict,
        code=last.code,
        reason=f"{last.reason}; for another attempt {NO_BENCH}",
        exit_code=last.exit_code,
        attempts=execution.attempt,
        totals=last.totals,
        fault=last.fault,
    )


def _leases(pool: Pool, now: datetime) -> Iterator[Event]:
    for reservation in _live(pool.reservations):
        if reservation.lease_until is not None and reservation.lease_until <= now:
            yield ReservationExpired(
                reservation_id=reservation.id, code="lease_expired", reason="its time is over"
            )


def _lost_workers(ledger: Ledger, pool: Pool, monotonic_s: float) -> Iterator[Event]:
    for worker_id in sorted(pool.workers):
        heard_s = ledger.heard.get((pool.name, worker_id), monotonic_s)
        if monotonic_s - heard_s > WORKER_DEADLINE_S:
            reason = f"not heard of for {WORKER_DEADLINE_S:.0f} s"
            yield WorkerLost(worker=worker_id, epoch=pool.workers[worker_id].epoch, reason=reason)


def _unnamed_attempts(ledger: Ledger, pool: Pool, monotonic_s: float) -> Iterator[Event]:
    """End what a worker was given and does not run: it forgot it, or never had it.

    Decided by a tick and not by the heartbeat that is one too many, because a tick waits for what
    is unread: the heartbeat that names the attempt may lie behind a backlog.
    """
    for worker_id in sorted(pool.workers):
        for execution_id, unnamed in sorted(_unnamed_of(ledger, pool, worker_id).items()):
            execution = pool.executions.get(execution_id)
            if (
                execution is not None
                and (execution.state, execution.attempt) == ("active", unnamed.attempt)
                and unnamed.beats >= UNNAMED_BEATS_MIN
                and monotonic_s - unnamed.since_s >= UNNAMED_S
            ):
                reason = f"worker {worker_id} did not name it for {UNNAMED_S:.0f} s"
                yield from give_up(execution, ATTEMPT_UNKNOWN, reason)


def _unnamed_of(ledger: Ledger, pool: Pool, worker_id: str) -> dict[str, Unnamed]:
    return ledger.unnamed.get((pool.name, worker_id), {})


def note_named(
    ledger: Ledger, pool: Pool, worker: Worker, named: Sequence[AttemptRef], received_s: float
) -> None:
    """Note which attempts of a worker its heartbeat does not name, and since when."""
    told = {(ref.execution_id, ref.attempt) for ref in named}
    before = _unnamed_of(ledger, pool, worker.id)
    found: dict[str, Unnamed] = {}
    for execution_id in sorted(worker.running):
        attempt = pool.executions[execution_id].attempt
        if (execution_id, attempt) in told:
            continue
        last = before.get(execution_id)
        if last is None or last.attempt != attempt:
            last = Unnamed(attempt=attempt, since_s=received_s, beats=0)
        found[execution_id] = replace(last, beats=last.beats + 1)
    ledger.unnamed[pool.name, worker.id] = found


def _overdue_attempts(pool: Pool, now: datetime) -> Iterator[Effect]:
    for execution in _live(pool.executions):
        if execution.state != "active" or execution.assigned_at is None:
            continue
        limit_s = attempt_limit_s(execution.run.timeout_s, execution.steps)
        due = execution.assigned_at + timedelta(seconds=limit_s)
        if due <= now:
            yield from give_up(execution, "attempt_overdue", "its worker did not end it in time")
            task = StopAttempt(
                execution_id=execution.id,
                attempt=execution.attempt,
                fence=execution.fence,
                code="attempt_overdue",
                reason="it did not end in time",
            )
            yield Order(worker=execution.worker, epoch=execution.epoch, task=task)


def attempt_limit_s(timeout_s: float, steps: Sequence[StepPolicy]) -> float:
    """Return how long an attempt on a bench with such `steps` may take before it is overdue.

    A bench is torn down also between two tries of `provision`.
    """
    given = {policy.step: policy for policy in steps}
    teardown = given.get("teardown", StepPolicy(step="teardown", retries=0, backoff_s=0.0))
    between = given["provision"].retries if "provision" in given else 0
    steps_s = sum(map(_step_limit_s, steps)) + between * _step_limit_s(teardown)
    return timeout_s + ATTEMPT_GRACE_S + steps_s


def _step_limit_s(policy: StepPolicy) -> float:
    """Return how long a step may take with all its tries and pauses."""
    timeout_s = STEP_S_DEFAULT if policy.timeout_s is None else policy.timeout_s
    pauses_s = policy.backoff_s * float(2**policy.retries - 1)
    return (timeout_s + STEP_CANCEL_S) * (policy.retries + 1) + pauses_s


def give_up(execution: Execution, code: str, reason: str) -> Sequence[Event]:
    """Return the facts that end an attempt whose worker cannot; the bench is to be cleaned."""
    return [
        BenchCleaning(bench=execution.bench, fence=execution.fence, reason=reason),
        AttemptFinished(
            execution_id=execution.id,
            attempt=execution.attempt,
            bench=execution.bench,
            worker=execution.worker,
            verdict="error",
            code=code,
            reason=reason,
            totals=NO_TOTALS,
            artifacts=(),
            is_retriable=True,
            fault=fault_of("error", code),
        ),
    ]


def _overdue_cleanings(pool: Pool, now: datetime) -> Iterator[Event]:
    for name in sorted(pool.benches):
        bench = pool.benches[name]
        cleaning = bench.cleaning
        if cleaning is None or not cleaning.worker or bench.quarantine:
            continue  # While nobody can be asked it is not usable, and nobody fails at it.
        teardown = (policy for policy in cleaning.spec.steps if policy.step == "teardown")
        limit_s = CLEANING_S_MAX + sum(map(_step_limit_s, teardown))
        if cleaning.since + timedelta(seconds=limit_s) <= now:
            reason = f"not cleaned within {limit_s:.0f} s; look at it, then restore it"
            yield BenchQuarantined(bench=name, reason=reason)
