"""One input to one decision: decide, evolve, react, place, until nothing follows.

Never reads a clock and never writes: the runtime hands time in and takes the decision out. The
ledger moves on as facts are made, so if a decision is not committed the ledger is ahead of the log
and must be thrown away.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from events.commands import Command
from events.dlq import DeadLetter
from events.errors import TooLate
from events.facts import (
    BenchFreed,
    BenchHeld,
    BenchQuarantined,
    BenchRegistered,
    ClockJumped,
    CommandRejected,
    Event,
    ExecutionFinished,
    InputSetAside,
    InputsRead,
)
from events.ids import derived_id
from events.message import EventMessage, Message, TaskMessage
from events.reports import Report, WorkerHeartbeat, WorkerStarted
from events.results import ExecutionResult
from events.shared import CommandMeta, EventMeta, ReportMeta, TaskMeta
from processors.saga.letters import letter_of
from processors.saga.reactions import react
from processors.saga.results import result_of
from processors.scheduler.commands import decide_command
from processors.scheduler.deadlines import decide_tick, note_named
from processors.scheduler.decision import Decision, Effect, Ignored, Input, Order, Tick
from processors.scheduler.evolve import IDEMPOTENCY_WINDOW, fold
from processors.scheduler.jumps import age
from processors.scheduler.lives import is_current
from processors.scheduler.placement import place
from processors.scheduler.reports import decide_report
from processors.scheduler.state import Bench, Ledger, Pool, Trace

NO_REQUEST = "-"
"""Stands for the request hash of a command whose sender gave none."""
SCHEDULER = "scheduler"
KEY_REPEAT = "idempotency_key_repeat"
"""Code of the refusal that names the command under the same key whose outcome it is."""
LOST_HOLDER = "journal-lost"
LOST_REASON = "the journal was lost: see that nothing runs on it, then `teo bench restore`"
WHOLE_PARTITION = ""
"""Stands for a pool in facts about all of a partition."""
EFFECTS_PER_DECISION_MAX = 100_000
"""More than any honest decision has: beyond it a reaction feeds itself, and the input is poison."""


def handle(ledger: Ledger, given: Input) -> Decision:
    """Return what one command or report leads to; empty if it is a repeat or stale."""
    meta = given.message.meta
    at = max(ledger.now, given.at)
    pool = ledger.pools.get(meta.pool) or Pool(meta.pool)
    if isinstance(meta, CommandMeta):
        if meta.command_id in ledger.known:
            return Decision(ignored=("repeat",))
        cause = _Cause(
            at=at,
            actor=meta.actor,
            causation_id=meta.command_id,
            trace=Trace(correlation_id=meta.correlation_id, traceparent=meta.traceparent),
            input_topic=given.topic,
            input_offset=given.offset,
            request_hash=meta.request_hash or NO_REQUEST,
        )
        draft = _Draft(ledger, meta.pool, cause)
        command = cast(Command, given.message.body)
        if _is_known(ledger, meta.after, at):
            draft.apply([_repeat(command, meta.after)])
        else:
            draft.apply(decide_command(pool, command, meta, at))
    else:
        cause = _Cause(
            at=at,
            actor=f"worker:{meta.worker}",
            causation_id=meta.report_id,
            trace=Trace(correlation_id=meta.correlation_id, traceparent=meta.traceparent),
            input_topic=given.topic,
            input_offset=given.offset,
        )
        draft = _Draft(ledger, meta.pool, cause)
        report = cast(Report, given.message.body)
        draft.apply(decide_report(pool, report, meta))
        _note_heard(ledger, report, meta, given.received_s)
    draft.place()
    return draft.finish()


def _note_heard(ledger: Ledger, report: Report, meta: ReportMeta, received_s: float) -> None:
    """Note that a registered life was heard of, and what it runs: no facts, and so not in events.

    A life that still asks runs nothing.
    """
    pool = ledger.pools.get(meta.pool)
    if pool is None or not is_current(pool, meta):
        return
    ledger.heard[meta.pool, meta.worker] = received_s
    if isinstance(report, WorkerHeartbeat | WorkerStarted):
        named = report.running if isinstance(report, WorkerHeartbeat) else ()
        note_named(ledger, pool, pool.workers[meta.worker], named, received_s)


def _is_known(ledger: Ledger, command_id: str, at: datetime) -> bool:
    """Return True if a command was decided within the window; what is forgotten late is not."""
    known = ledger.known.get(command_id)
    return known is not None and at - known <= IDEMPOTENCY_WINDOW


def _repeat(command: Command, first_id: str) -> CommandRejected:
    """Return the refusal of a command whose sender believed the window of its key over.

    It names the command that has the outcome: the sender, whose clock is wrong, looks there.
    """
    return CommandRejected(
        command=type(command).__name__,
        code=KEY_REPEAT,
        reason=(
            f"its Idempotency-Key was used for command {first_id} less than a day ago: this is a "
            "repeat of that; use a fresh key to ask anew"
        ),
        subject_id=first_id,
    )


def too_late(ledger: Ledger, given: Input, stamped_at: datetime) -> TooLate | None:
    """Return what is wrong with a command that is older than repeats are known; None: nothing.

    It may be a copy of one that was decided and forgotten, so it must not be decided again. Its
    age is counted to its stamp as it stands on the log: its sender took the time from such a one.
    """
    meta = given.message.meta
    if not isinstance(meta, CommandMeta):
        return None
    if age(ledger, meta.issued_at, stamped_at) <= IDEMPOTENCY_WINDOW:
        return None
    return TooLate(
        f"command {meta.command_id} was asked at {meta.issued_at.isoformat()} and written at "
        f"{stamped_at.isoformat()}: repeats are known for a day, so it may have been decided "
        "before; see whether it was, or whether its sender's clock is right, then replay or "
        "discard it"
    )


def is_due(ledger: Ledger, given: Tick) -> bool:
    """Return True if a tick would decide something because time has passed."""
    return any(
        next(iter(decide_tick(ledger, pool, given)), None) is not None
        for pool in ledger.pools.values()
    )


def tick(ledger: Ledger, given: Tick) -> Sequence[Decision]:
    """Return what is due, one decision for each pool that has something due.

    What is due is judged by the tick's time; what follows is never dated before what is known.
    """
    at = max(ledger.now, given.now)
    found: list[Decision] = []
    for name in sorted(ledger.pools):
        pool = ledger.pools[name]
        for worker_id in pool.workers:
            ledger.heard.setdefault((name, worker_id), given.monotonic_s)
        draft = _Draft(ledger, name, _Cause(at=at, actor=SCHEDULER))
        draft.apply(decide_tick(ledger, pool, given))
        draft.place()
        decision = draft.finish()
        if decision.events or decision.tasks:
            found.append(decision)
    return found


def set_aside(
    ledger: Ledger, aside: InputSetAside, *, input_id: str, at: datetime, pool: str
) -> Decision:
    """Return the fact that an input went to the dead letters, so that the position moves on."""
    cause = _Cause(
        at=max(ledger.now, at),
        actor=SCHEDULER,
        causation_id=input_id,
        input_topic=aside.source_topic,
        input_offset=aside.source_offset,
    )
    draft = _Draft(ledger, pool, cause)
    draft.apply([aside])
    return draft.finish()


def clock_jumped(ledger: Ledger, jumped: ClockJumped, *, at: datetime, pool: str) -> Decision:
    """Return the fact that a clock jumped; `at` is what time it is after that."""
    draft = _Draft(ledger, pool, _Cause(at=max(ledger.now, at), actor=SCHEDULER))
    draft.apply([jumped])
    return draft.finish()


def inputs_read(
    ledger: Ledger, *, topic: str, offset: int, input_id: str, at: datetime, pool: str
) -> Decision:
    """Return the fact that nothing follows from the inputs up to `offset`: they are done with."""
    count = offset - ledger.positions.get(topic, -1)
    cause = _Cause(
        at=max(ledger.now, at),
        actor=SCHEDULER,
        causation_id=input_id,
        input_topic=topic,
        input_offset=offset,
    )
    draft = _Draft(ledger, pool, cause)
    draft.apply([InputsRead(count=count)])
    return draft.finish()


def about_partition(
    ledger: Ledger, fact: Event, *, at: datetime, actor: str = SCHEDULER, cause: str = ""
) -> Decision:
    """Return a fact about the partition itself: it is decided from no input.

    `cause` is the id of what it follows from; of a reset, the newest input that is still there.
    """
    made = _Cause(at=max(ledger.now, at), actor=actor, causation_id=cause)
    draft = _Draft(ledger, WHOLE_PARTITION, made)
    draft.apply([fact])
    return draft.finish()


def carried_over(
    ledger: Ledger, pool: str, benches: Iterable[Bench], *, at: datetime, actor: str
) -> Sequence[Decision]:
    """Return the facts by which benches of a journal that is lost are known here.

    Each keeps its fence, so that none falls, and is out of placement: something may run on it.
    """
    found: list[Decision] = []
    for bench in benches:
        name, fence = bench.spec.name, bench.fence
        draft = _Draft(ledger, pool, _Cause(at=max(ledger.now, at), actor=actor))
        draft.apply([BenchRegistered(bench=bench.spec)])
        if fence:
            held = BenchHeld(
                bench=name, fence=fence, holder_kind="execution", holder_id=LOST_HOLDER
            )
            draft.apply([held, BenchFreed(bench=name, fence=fence, reason=LOST_REASON)])
        draft.apply([BenchQuarantined(bench=name, reason=LOST_REASON)])
        found.append(draft.finish())
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """What a decision follows from; the part of the meta that all its events share."""

    at: datetime
    actor: str
    causation_id: str = ""
    trace: Trace = field(default_factory=lambda: Trace(correlation_id="", traceparent=""))
    input_topic: str = ""
    input_offset: int = -1
    request_hash: str = ""


@dataclass(slots=True)
class _Draft:
    """A decision in the making."""

    ledger: Ledger
    pool: str
    cause: _Cause
    events: list[EventMessage] = field(default_factory=list)
    tasks: list[TaskMessage] = field(default_factory=list)
    results: list[ExecutionResult] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def apply(self, effects: Iterable[Effect]) -> None:
        """Put down each effect with all it leads to, before the next one is asked for."""
        for effect in effects:
            size = len(self.events) + len(self.tasks)
            assert size < EFFECTS_PER_DECISION_MAX, f"a decision of {size} effects has no end"
            if isinstance(effect, Ignored):
                self.ignored.append(effect.reason)
            elif isinstance(effect, Order):
                self._order(effect)
            else:
                self._event(effect)

    def place(self) -> None:
        """Grant what can be granted now."""
        pool = self.ledger.pools.get(self.pool)
        while pool is not None and (granted := place(pool, self.cause.at)):
            self.apply(granted)

    def finish(self) -> Decision:
        """Return the decision, each event with the number of them all."""
        count = len(self.events)
        return Decision(
            events=tuple(
                Message(replace(message.meta, count=count), message.body) for message in self.events
            ),
            tasks=tuple(self.tasks),
            results=tuple(self.results),
            letters=tuple(self.letters),
            ignored=tuple(self.ignored),
        )

    def _event(self, event: Event) -> None:
        pool = self.ledger.pools.get(self.pool)
        meta = self._meta(pool, event)
        if isinstance(event, ExecutionFinished) and pool is not None:
            execution = pool.executions[event.execution_id]
            self.results.append(result_of(execution, event, meta, self.ledger.partition))
            letter = letter_of(execution, event, meta, self.ledger.partition)
            self.letters += [letter] if letter is not None else []
        message = Message(meta, event)
        self.events.append(message)
        fold(self.ledger, message)
        pool = self.ledger.pools.get(self.pool)
        if pool is not None:
            self.apply(react(pool, event, self.cause.at))

    def _meta(self, pool: Pool | None, event: Event) -> EventMeta:
        trace = _trace_of(pool, event) or self.cause.trace
        return EventMeta(
            event_id=derived_id(self.cause.at, f"event/{self.ledger.partition}/{self.ledger.seq}"),
            pool=self.pool,
            seq=self.ledger.seq,
            index=len(self.events),
            count=0,
            occurred_at=self.cause.at,
            actor=self.cause.actor,
            causation_id=self.cause.causation_id,
            correlation_id=trace.correlation_id,
            traceparent=trace.traceparent,
            input_topic=self.cause.input_topic,
            input_offset=self.cause.input_offset,
            request_hash=self.cause.request_hash,
        )

    def _order(self, order: Order) -> None:
        pool = self.ledger.pools.get(self.pool)
        trace = _trace_of(pool, order.task) or self.cause.trace
        place_of = f"{self.ledger.seq}/{self.cause.input_offset}/{len(self.tasks)}"
        meta = TaskMeta(
            task_id=derived_id(self.cause.at, f"task/{self.ledger.partition}/{place_of}"),
            pool=self.pool,
            worker=order.worker,
            epoch=order.epoch,
            life=order.life or _life_of(pool, order),
            issued_at=self.cause.at,
            causation_id=self.cause.causation_id,
            correlation_id=trace.correlation_id,
            traceparent=trace.traceparent,
        )
        self.tasks.append(Message(meta, order.task))


def _life_of(pool: Pool | None, order: Order) -> str:
    """Return the life that is registered with the order's epoch; empty: none, or it has no id."""
    worker = None if pool is None else pool.workers.get(order.worker)
    return worker.life if worker is not None and worker.epoch == order.epoch else ""


def _trace_of(pool: Pool | None, about: object) -> Trace | None:
    """Return the trace of the execution or reservation that `about` names, if it is live."""
    if pool is None:
        return None
    for name in ("execution_id", "reservation_id", "holder_id"):
        subject = getattr(about, name, None)
        if subject is not None:
            ask = pool.executions.get(subject) or pool.reservations.get(subject)
            if ask is not None:
                return ask.trace
    return None
