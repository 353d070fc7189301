"""What follows from a fact: the next step of an execution, its retry, its end, compensation.

`react` is pure. It is asked right after `evolve` applied the event, inside the same decision, so
that an assignment and its first task, a loss and its compensation are one atomic fact.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from events import facts
from events.codes import again_of
from events.facts import Event
from events.tasks import LifeAccepted, RunAttempt, StopAttempt, TearDownBench
from processors.scheduler.deadlines import give_up
from processors.scheduler.decision import Effect, Order
from processors.scheduler.executions import end_early
from processors.scheduler.service import check_orders, presence
from processors.scheduler.state import Bench, Execution, Pool
from processors.scheduler.workers import too_many_faults

BACKOFF_S_FIRST = 1.0
BACKOFF_S_MAX = 60.0
UNSERVED = "no live worker takes attempts for it"


def react(pool: Pool, event: Event, now: datetime) -> Sequence[Effect]:
    """Return what `event`, just applied to `pool`, leads to."""
    reaction = _REACTIONS.get(type(event))
    return [] if reaction is None else reaction(pool, event, now)


def _assigned(pool: Pool, event: facts.ExecutionAssigned, _: datetime) -> Sequence[Effect]:
    task = RunAttempt(
        execution_id=event.execution_id,
        attempt=event.attempt,
        fence=event.fence,
        bench=pool.benches[event.bench].spec,
        run=pool.executions[event.execution_id].run,
    )
    return [Order(worker=event.worker, epoch=event.epoch, task=task)]


def _cancel_requested(
    pool: Pool, event: facts.ExecutionCancelRequested, _: datetime
) -> Sequence[Effect]:
    execution = pool.executions[event.execution_id]
    task = StopAttempt(
        execution_id=execution.id,
        attempt=execution.attempt,
        fence=execution.fence,
        code=event.code,
        reason=event.reason,
    )
    return [Order(worker=execution.worker, epoch=execution.epoch, task=task)]


def _attempt_finished(pool: Pool, event: facts.AttemptFinished, now: datetime) -> Sequence[Effect]:
    execution = pool.executions[event.execution_id]
    suspended = too_many_faults(pool.workers.get(event.worker), event)
    return [*suspended, _next(execution, event, now), *_settle(pool, [pool.benches[event.bench]])]


def _next(execution: Execution, event: facts.AttemptFinished, now: datetime) -> Event:
    """Return what follows an attempt: another one, or the end.

    An error of the lab is tried again elsewhere, after a pause; tests that failed only if that
    was asked for, at once and anywhere. What nothing was begun of uses up no try, and what fails
    every time (a command that cannot be started, a glob that names nothing) is not tried again.
    """
    again = again_of(event.verdict, event.code, event.fault)
    if execution.cancel is not None:
        if event.verdict in ("cancelled", "error"):
            return _end(execution, event, "cancelled", *execution.cancel)
    elif (
        event.verdict == "error"
        and event.is_retriable
        and (again == "free" or execution.errors <= execution.retries)
    ):
        backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2 ** max(0, execution.errors - 1))
        return _again(event, now + timedelta(seconds=backoff_s), avoid_bench=event.bench)
    elif (
        event.verdict == "failed"
        and again == "failure"
        and execution.failures <= execution.retries_on_failure
    ):
        return _again(event, now, avoid_bench="")
    return _end(execution, event, event.verdict, event.code, event.reason)


def _again(event: facts.AttemptFinished, not_before: datetime, *, avoid_bench: str) -> Event:
    return facts.ExecutionRequeued(
        execution_id=event.execution_id,
        next_attempt=event.attempt + 1,
        not_before=not_before,
        avoid_bench=avoid_bench,
        reason=event.reason,
    )


def _end(
    execution: Execution, event: facts.AttemptFinished, verdict: str, code: str, reason: str
) -> Event:
    return facts.ExecutionFinished(
        execution_id=execution.id,
        verdict=verdict,
        code=code,
        reason=reason,
        exit_code=event.exit_code,
        attempts=event.attempt,
        totals=event.totals,
        is_flaky=verdict == "passed" and execution.failures > 0,
        fault=event.fault if verdict == event.verdict else "",
    )


def _requeued(pool: Pool, event: facts.ExecutionRequeued, _: datetime) -> Sequence[Effect]:
    return _settle(pool, pool.held_by(event.execution_id))


def _finished(pool: Pool, event: facts.ExecutionFinished, _: datetime) -> Sequence[Effect]:
    return _settle(pool, pool.held_by(event.execution_id))


def _settle(pool: Pool, benches: Sequence[Bench]) -> Sequence[Event]:
    """Free each bench whose holder has no more use for it and that nobody works on."""
    return [
        facts.BenchFreed(bench=bench.spec.name, fence=bench.fence, reason="its use is over")
        for bench in benches
        if bench.holder and not bench.attempt_of and _is_clean(bench) and not _in_use(pool, bench)
    ]


def _is_clean(bench: Bench) -> bool:
    return bench.cleaning is None or bool(bench.quarantine)


def _in_use(pool: Pool, bench: Bench) -> bool:
    execution = pool.executions.get(bench.holder)
    if execution is not None:
        # A bench that was cleaned late may be that of an attempt before.
        return execution.bench == bench.spec.name and execution.state in ("active", "attempt_over")
    return bench.holder in pool.reservations


def _bench_changed(
    pool: Pool, event: facts.BenchCleaned | facts.BenchQuarantined, _: datetime
) -> Sequence[Effect]:
    return _settle(pool, [pool.benches[event.bench]])


def _reservation_ended(
    pool: Pool,
    event: facts.ReservationReleased
    | facts.ReservationExpired
    | facts.ReservationCancelled
    | facts.ReservationRevoked,
    _: datetime,
) -> Sequence[Effect]:
    """Free its benches; what runs in it is stopped, and frees its bench when it is torn down."""
    reason = f"reservation {event.reservation_id}: {event.reason}"
    ends = [
        end_early(execution, "lease_lost", reason)
        for execution in pool.executions_in(event.reservation_id)
    ]
    return [*ends, *_settle(pool, pool.held_by(event.reservation_id))]


def _bench_registered(pool: Pool, event: facts.BenchRegistered, _: datetime) -> Sequence[Effect]:
    name = event.bench.name
    changed = presence(pool, [name], UNSERVED, is_news=True)
    return [*changed, *_request_teardown(pool, pool.benches[name])]


def _worker_registered(pool: Pool, event: facts.WorkerRegistered, _: datetime) -> Sequence[Effect]:
    """Tell the life that it is accepted before it is told anything else; then have it look at its
    benches. One that checks none serves them at once."""
    accepted = Order(worker=event.worker, epoch=event.epoch, life=event.life, task=LifeAccepted())
    orders = check_orders(pool, pool.workers[event.worker], pool.benches)
    return [
        *([accepted] if event.life else []),
        *presence(pool, pool.benches, UNSERVED),
        *_owed_teardowns(pool),
        *orders,
    ]


def _service_changed(
    pool: Pool,
    _event: facts.WorkerDrained | facts.WorkerSuspended | facts.WorkerResumed,
    _: datetime,
) -> Sequence[Effect]:
    return [*presence(pool, pool.benches, UNSERVED), *_owed_teardowns(pool)]


def _checks_recorded(pool: Pool, event: facts.BenchChecksRecorded, _: datetime) -> Sequence[Effect]:
    return presence(pool, [each.bench for each in event.checks], UNSERVED)


def _worker_ended(
    pool: Pool, event: facts.WorkerLost | facts.WorkerGone, _: datetime
) -> Sequence[Effect]:
    """End its attempts, have somebody else clean up, and take unserved benches offline."""
    ended: list[Event] = []
    for name in sorted(pool.benches):
        execution = pool.executions.get(pool.benches[name].attempt_of)
        if execution is not None and execution.worker == event.worker:
            reason = f"worker {event.worker} was lost: {event.reason}"
            ended += give_up(execution, "worker_lost", reason)
    gone = presence(pool, pool.benches, f"worker {event.worker} is gone: {event.reason}")
    return [*ended, *gone, *_owed_teardowns(pool)]


def _cleaning(pool: Pool, event: facts.BenchCleaning, _: datetime) -> Sequence[Effect]:
    """Ask the attempt's own worker if it lives: it ends the attempt before it tears down."""
    bench = pool.benches[event.bench]
    return _request_teardown(pool, bench, first=pool.executions[bench.attempt_of].worker)


def _owed_teardowns(pool: Pool) -> Sequence[Event]:
    benches = (pool.benches[name] for name in sorted(pool.benches))
    return [event for bench in benches for event in _request_teardown(pool, bench)]


def _request_teardown(pool: Pool, bench: Bench, *, first: str = "") -> Sequence[Event]:
    """Ask a worker with the adapter that made what is to be torn down; a suspended one may too,
    and the worker `first` also if it is draining."""
    cleaning = bench.cleaning
    if cleaning is None or cleaning.worker:
        return []
    fit = [
        worker
        for worker in pool.workers.values()
        if worker.is_for(cleaning.spec.adapter, bench.spec.name)
        and (not worker.is_draining or worker.id == first)
    ]
    if not fit:
        return []
    worker = min(
        fit,
        key=lambda each: (each.id != first, bool(each.suspended), len(each.running), each.id),
    )
    return [
        facts.TeardownRequested(
            execution_id=cleaning.execution_id,
            attempt=cleaning.attempt,
            bench=bench.spec.name,
            fence=cleaning.fence,
            worker=worker.id,
            epoch=worker.epoch,
        )
    ]


def _teardown_requested(
    pool: Pool, event: facts.TeardownRequested, _: datetime
) -> Sequence[Effect]:
    bench = pool.benches[event.bench]
    task = TearDownBench(
        execution_id=event.execution_id,
        attempt=event.attempt,
        fence=event.fence,
        bench=bench.cleaning.spec if bench.cleaning is not None else bench.spec,
        handle=bench.cleaning.handle if bench.cleaning is not None else None,
    )
    return [Order(worker=event.worker, epoch=event.epoch, task=task)]


_REACTIONS: dict[type, Callable[[Pool, Any, datetime], Sequence[Effect]]] = {
    facts.ExecutionAssigned: _assigned,
    facts.ExecutionCancelRequested: _cancel_requested,
    facts.AttemptFinished: _attempt_finished,
    facts.ExecutionRequeued: _requeued,
    facts.ExecutionFinished: _finished,
    facts.BenchCleaned: _bench_changed,
    facts.BenchQuarantined: _bench_changed,
    facts.ReservationReleased: _reservation_ended,
    facts.ReservationExpired: _reservation_ended,
    facts.ReservationCancelled: _reservation_ended,
    facts.ReservationRevoked: _reservation_ended,
    facts.BenchRegistered: _bench_registered,
    facts.WorkerRegistered: _worker_registered,
    facts.WorkerDrained: _service_changed,
    facts.WorkerSuspended: _service_changed,
    facts.WorkerResumed: _service_changed,
    facts.BenchChecksRecorded: _checks_recorded,
    facts.WorkerLost: _worker_ended,
    facts.WorkerGone: _worker_ended,
    facts.BenchCleaning: _cleaning,
    facts.TeardownRequested: _teardown_requested,
}
