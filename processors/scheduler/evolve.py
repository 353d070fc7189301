"""What each fact changes in the state. Never refuses, never checks a rule, never reads a clock.

`evolve` owns the state and updates it in place: a copy for each event would cost with what waits.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from events import facts
from events.codes import again_of
from events.facts import Event
from events.message import EventMessage
from events.shared import EventMeta
from processors.scheduler import evolve_workers
from processors.scheduler.jumps import shift
from processors.scheduler.state import (
    Bench,
    Cleaning,
    Ended,
    Execution,
    Jump,
    Ledger,
    Pool,
    Reservation,
    Trace,
    class_of,
)
from processors.scheduler.workers import faults_after

IDEMPOTENCY_WINDOW = timedelta(hours=24)
"""For how long, in log time, a repeat is known and a finished thing is remembered."""
KNOWN_MIN = 5_000
"""So many commands are known for longer, as long as no others follow.

Who sends one again while nobody decides cannot know of the first: such copies stand behind one
another, days apart by their stamps, and are decided within a moment.
"""


def fold(ledger: Ledger, message: EventMessage) -> None:
    """Apply one event of the journal to `ledger`."""
    meta, event = message.meta, message.body
    ledger.seq = meta.seq + 1
    ledger.now = max(ledger.now, meta.occurred_at)
    if not meta.seq:
        ledger.began = meta.occurred_at
    if meta.input_topic:
        ledger.positions[meta.input_topic] = meta.input_offset
        ledger.inputs[meta.input_topic] = meta.causation_id
        if meta.causation_id and meta.request_hash:
            ledger.known.setdefault(meta.causation_id, meta.occurred_at)
            _forget(ledger.known, lambda at: at, meta.occurred_at, least=KNOWN_MIN)
    if isinstance(event, facts.ClockJumped):
        _clock_jumped(ledger, event, meta)
    if isinstance(event, facts.BenchRegistered | facts.WorkerRegistered):
        ledger.pools.setdefault(meta.pool, Pool(meta.pool))
    elif isinstance(event, facts.InputsReset):
        ledger.positions[event.topic] = event.next_offset - 1
        ledger.inputs[event.topic] = meta.causation_id
    elif isinstance(event, facts.TopicsBound):
        ledger.topics = dict(event.topics)
    pool = ledger.pools.get(meta.pool)
    if pool is None:
        return
    if isinstance(event, facts.WorkerLost | facts.WorkerGone):
        ledger.heard.pop((meta.pool, event.worker), None)
        ledger.unnamed.pop((meta.pool, event.worker), None)
    evolve(pool, event, meta)


def _clock_jumped(ledger: Ledger, event: facts.ClockJumped, meta: EventMeta) -> None:
    """Move what is compared with the time; back, it is the stamps that are corrected."""
    if event.by_s <= 0:
        return
    shift(ledger, event.by_s)
    limit = meta.occurred_at - IDEMPOTENCY_WINDOW
    ledger.jumps = [jump for jump in ledger.jumps if jump.at >= limit]
    ledger.jumps.append(Jump(meta.occurred_at, event.by_s))


def _forget(
    entries: dict[str, Any], at_of: Callable[[Any], datetime], now: datetime, *, least: int = 0
) -> None:
    """Drop entries older than the window, but for the `least` newest; they stand oldest first."""
    limit = now - IDEMPOTENCY_WINDOW
    while len(entries) > least and at_of(entries[oldest := next(iter(entries))]) < limit:
        del entries[oldest]


def evolve(pool: Pool, event: Event, meta: EventMeta) -> None:
    """Apply one event to its pool."""
    apply = _APPLY.get(type(event))
    if apply is not None:
        apply(pool, event, meta)


def _refresh(pool: Pool, name: str) -> None:
    bench = pool.benches.get(name)
    if bench is not None and bench.is_free:
        pool.free.add(name)
    else:
        pool.free.discard(name)


def _bench_registered(pool: Pool, event: facts.BenchRegistered, meta: EventMeta) -> None:
    bench = pool.benches.get(event.bench.name)
    if bench is None:
        pool.benches[event.bench.name] = Bench(event.bench, version=meta.seq)
    else:
        before, bench.spec = bench.spec, event.bench
        if (before.adapter, before.config) != (event.bench.adapter, event.bench.config):
            bench.version = meta.seq
    pool.matches.clear()
    _refresh(pool, event.bench.name)


def _bench_online(pool: Pool, event: facts.BenchOnline, _: EventMeta) -> None:
    pool.benches[event.bench].is_online = True
    pool.benches[event.bench].offline = ""
    _refresh(pool, event.bench)


def _bench_offline(pool: Pool, event: facts.BenchOffline, _: EventMeta) -> None:
    pool.benches[event.bench].is_online = False
    pool.benches[event.bench].offline = event.reason
    _refresh(pool, event.bench)


def _bench_held(pool: Pool, event: facts.BenchHeld, _: EventMeta) -> None:
    bench = pool.benches[event.bench]
    bench.holder = event.holder_id
    bench.fence = event.fence
    _refresh(pool, event.bench)


def _bench_freed(pool: Pool, event: facts.BenchFreed, _: EventMeta) -> None:
    pool.benches[event.bench].holder = ""
    _refresh(pool, event.bench)


def _bench_cleaning(pool: Pool, event: facts.BenchCleaning, meta: EventMeta) -> None:
    bench = pool.benches[event.bench]
    execution = pool.executions[bench.attempt_of]
    bench.cleaning = Cleaning(
        spec=execution.spec or bench.spec,
        execution_id=execution.id,
        attempt=execution.attempt,
        fence=event.fence,
        handle=execution.handle,
        since=meta.occurred_at,
    )
    _refresh(pool, event.bench)


def _teardown_requested(pool: Pool, event: facts.TeardownRequested, meta: EventMeta) -> None:
    cleaning = pool.benches[event.bench].cleaning
    if cleaning is not None:
        cleaning.worker = event.worker
        cleaning.epoch = event.epoch
        cleaning.since = meta.occurred_at


def _bench_cleaned(pool: Pool, event: facts.BenchCleaned, _: EventMeta) -> None:
    pool.benches[event.bench].cleaning = None
    _refresh(pool, event.bench)


def _bench_quarantined(pool: Pool, event: facts.BenchQuarantined, _: EventMeta) -> None:
    pool.benches[event.bench].quarantine = event.reason
    _refresh(pool, event.bench)


def _bench_restored(pool: Pool, event: facts.BenchRestored, _: EventMeta) -> None:
    """Whoever restores a bench vouches for it: nothing is owed on it any more."""
    pool.benches[event.bench].quarantine = ""
    pool.benches[event.bench].cleaning = None
    _refresh(pool, event.bench)


def _trace(meta: EventMeta) -> Trace:
    return Trace(correlation_id=meta.correlation_id, traceparent=meta.traceparent)


def _reservation_requested(pool: Pool, event: facts.ReservationRequested, meta: EventMeta) -> None:
    reservation = Reservation(
        id=event.reservation_id,
        owner=event.owner,
        selectors=event.selectors,
        duration_s=event.duration_s,
        wait_until=event.wait_until,
        priority=event.priority,
        order=meta.seq,
        requested_at=meta.occurred_at,
        trace=_trace(meta),
    )
    pool.reservations[reservation.id] = reservation
    pool.queue.add(class_of(reservation), reservation.priority, meta.seq, reservation.id)


def _reservation_granted(pool: Pool, event: facts.ReservationGranted, _: EventMeta) -> None:
    reservation = pool.reservations[event.reservation_id]
    _unqueue(pool, reservation)
    reservation.benches = tuple(grant.bench for grant in event.grants)
    reservation.lease_until = event.lease_until


def _reservation_extended(pool: Pool, event: facts.ReservationExtended, _: EventMeta) -> None:
    pool.reservations[event.reservation_id].lease_until = event.lease_until


def _reservation_ended(
    pool: Pool,
    event: facts.ReservationReleased
    | facts.ReservationExpired
    | facts.ReservationCancelled
    | facts.ReservationRevoked,
    meta: EventMeta,
) -> None:
    reservation = pool.reservations.pop(event.reservation_id)
    _unqueue(pool, reservation)
    status = type(event).__name__.removeprefix("Reservation").lower()
    _remember(pool, reservation.id, Ended("reservation", status, meta.occurred_at))


def _remember(pool: Pool, ended_id: str, ended: Ended) -> None:
    pool.ended[ended_id] = ended
    _forget(pool.ended, lambda entry: entry.at, ended.at)


def _unqueue(pool: Pool, ask: Reservation | Execution) -> None:
    pool.queue.remove(class_of(ask), ask.priority, ask.order, ask.id)


def _execution_submitted(pool: Pool, event: facts.ExecutionSubmitted, meta: EventMeta) -> None:
    execution = Execution(
        id=event.execution_id,
        owner=event.owner,
        selector=event.selector,
        reservation_id=event.reservation_id,
        priority=event.priority,
        order=meta.seq,
        wait_until=event.wait_until,
        retries=event.retries,
        retries_on_failure=event.retries_on_failure,
        run=event.run,
        submitted_at=meta.occurred_at,
        trace=_trace(meta),
    )
    pool.executions[execution.id] = execution
    pool.queue.add(class_of(execution), execution.priority, meta.seq, execution.id)


def _execution_assigned(pool: Pool, event: facts.ExecutionAssigned, meta: EventMeta) -> None:
    execution = pool.executions[event.execution_id]
    _unqueue(pool, execution)
    pool.backoff.discard(execution.id)
    execution.state = "active"
    execution.attempt = event.attempt
    execution.bench = event.bench
    execution.fence = event.fence
    execution.worker = event.worker
    execution.epoch = event.epoch
    execution.step = ""
    execution.cases = 0
    execution.handle = None
    execution.assigned_at = meta.occurred_at
    execution.started_at = execution.started_at or meta.occurred_at
    bench = pool.benches[event.bench]
    execution.spec = bench.spec
    bench.attempt_of = execution.id
    bench.fence = event.fence
    pool.workers[event.worker].running.add(execution.id)
    _refresh(pool, event.bench)


def _step_started(pool: Pool, event: facts.AttemptStepStarted, _: EventMeta) -> None:
    execution = pool.executions[event.execution_id]
    execution.step = event.step
    execution.handle = event.handle if event.handle is not None else execution.handle


def _attempt_finished(pool: Pool, event: facts.AttemptFinished, _: EventMeta) -> None:
    execution = pool.executions[event.execution_id]
    execution.state = "attempt_over"
    is_counted = again_of(event.verdict, event.code, event.fault) != "free"
    execution.errors += event.verdict == "error" and is_counted
    execution.failures += event.verdict == "failed"
    execution.last = event
    worker = pool.workers.get(event.worker)
    if worker is not None:
        worker.running.discard(execution.id)
        worker.faults = faults_after(worker.faults, event)
    pool.benches[event.bench].attempt_of = ""
    _refresh(pool, event.bench)


def _execution_requeued(pool: Pool, event: facts.ExecutionRequeued, _: EventMeta) -> None:
    execution = pool.executions[event.execution_id]
    execution.state = "backoff"
    execution.not_before = event.not_before
    execution.avoid_bench = event.avoid_bench
    pool.backoff.add(execution.id)


def _cancel_requested(pool: Pool, event: facts.ExecutionCancelRequested, _: EventMeta) -> None:
    pool.executions[event.execution_id].cancel = (event.code, event.reason)


def _execution_finished(pool: Pool, event: facts.ExecutionFinished, meta: EventMeta) -> None:
    execution = pool.executions.pop(event.execution_id)
    _unqueue(pool, execution)
    pool.backoff.discard(execution.id)
    _remember(pool, execution.id, Ended("execution", event.verdict, meta.occurred_at))


def _cases_recorded(pool: Pool, event: facts.AttemptCasesRecorded, _: EventMeta) -> None:
    pool.executions[event.execution_id].cases += len(event.cases)


_APPLY: dict[type, Callable[[Pool, Any, EventMeta], None]] = {
    facts.BenchRegistered: _bench_registered,
    facts.BenchOnline: _bench_online,
    facts.BenchOffline: _bench_offline,
    facts.BenchHeld: _bench_held,
    facts.BenchFreed: _bench_freed,
    facts.BenchCleaning: _bench_cleaning,
    facts.BenchCleaned: _bench_cleaned,
    facts.BenchQuarantined: _bench_quarantined,
    facts.BenchRestored: _bench_restored,
    facts.TeardownRequested: _teardown_requested,
    facts.ReservationRequested: _reservation_requested,
    facts.ReservationGranted: _reservation_granted,
    facts.ReservationExtended: _reservation_extended,
    facts.ReservationReleased: _reservation_ended,
    facts.ReservationExpired: _reservation_ended,
    facts.ReservationCancelled: _reservation_ended,
    facts.ReservationRevoked: _reservation_ended,
    facts.ExecutionSubmitted: _execution_submitted,
    facts.ExecutionAssigned: _execution_assigned,
    facts.AttemptStepStarted: _step_started,
    facts.AttemptCasesRecorded: _cases_recorded,
    facts.AttemptFinished: _attempt_finished,
    facts.ExecutionRequeued: _execution_requeued,
    facts.ExecutionCancelRequested: _cancel_requested,
    facts.ExecutionFinished: _execution_finished,
    **evolve_workers.APPLY,
}
NO_CHANGE = (
    facts.CommandRejected,
    facts.InputSetAside,
    facts.InputsRead,
    facts.HealthPolicySet,
    facts.DeadLetterReplayed,
    facts.DeadLetterDiscarded,
    facts.ClockJumped,  # It is the ledger's, of all pools: `fold` applies it.
    facts.TopicsBound,
    facts.InputsReset,
    facts.RecordQuarantined,
)
"""Facts that change no pool; `fold` reads those about a whole partition. A test proves that every
event is here or in `_APPLY`."""
