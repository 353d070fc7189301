"""The invariants as rules that see the journal of one partition, event by event.

A rule yields a text for each event that breaks it, then goes on from what that event says. It
keeps what is open, not what is over, where the rule allows it.
"""

from collections.abc import Iterator
from datetime import datetime

from events import facts
from events.ids import derived_id
from events.message import EventMessage
from processors.audit.durations import LeasesLastAsAsked
from processors.audit.fault_rules import InfrastructureIsNotATestFailure, OnlyFaultsOfBenchesCount
from processors.audit.input_rules import NoInputIsDecidedTwice
from processors.audit.lives import OneLifeOfAWorker
from processors.audit.rule import BenchKey, Rule
from processors.audit.service_rules import AttemptsGoWhereTheyAreServed
from processors.scheduler.state import EPOCH


class JournalIsDenseAndWhole(Rule):
    """`seq` has no hole, and every decision is there from first to last."""

    name = "journal_is_dense_and_whole"

    def __init__(self) -> None:
        self._seq = 0
        self._left = 0

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        if meta.seq != self._seq:
            yield f"seq {self._seq} was due"
        if self._left == 0 and meta.index != 0:
            yield "a decision begins at index 0"
        if self._left and meta.index != meta.count - self._left:
            yield "decisions are whole"
        self._seq = meta.seq + 1
        self._left = max(0, meta.count - meta.index - 1)

    def end(self) -> Iterator[str]:
        """Yield what is wrong once there is no more."""
        if self._left:
            yield f"the last decision is whole: {self._left} events of it lack"


class TimeAndInputsGoForward(Rule):
    """Log time never goes back; of each input topic the offsets that are decided rise.

    Unless a fact says that the inputs were not what the journal knew.
    """

    name = "time_and_inputs_go_forward"

    def __init__(self) -> None:
        self._at: datetime = EPOCH
        self._inputs: dict[str, int] = {}

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        if meta.occurred_at < self._at:
            yield f"time goes back from {self._at.isoformat()}"
        self._at = max(self._at, meta.occurred_at)
        if isinstance(message.body, facts.InputsReset):
            self._inputs[message.body.topic] = message.body.next_offset - 1
        if not meta.input_topic:
            return
        last = self._inputs.get(meta.input_topic, -1)
        if meta.input_offset < last or (meta.input_offset == last and meta.index == 0):
            yield f"input {meta.input_offset} of {meta.input_topic} after {last}: decided twice"
        self._inputs[meta.input_topic] = max(last, meta.input_offset)


class FactsAreTheSchedulers(Rule):
    """Each event has the id that the scheduler gives to its place."""

    name = "facts_are_the_schedulers"

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        if meta.event_id != derived_id(meta.occurred_at, f"event/{self._partition}/{meta.seq}"):
            yield f"its id {meta.event_id} is not one the scheduler gives at this place"


class OneHolderAndRisingFences(Rule):
    """A bench has at most one holder; its fence rises with each grant."""

    name = "one_holder_and_rising_fences"

    def __init__(self) -> None:
        self._holder: dict[BenchKey, str] = {}
        self._fence: dict[BenchKey, int] = {}
        self._held_with: dict[BenchKey, int] = {}

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        match message.body:
            case facts.BenchHeld() as held:
                yield from self._held((message.meta.pool, held.bench), held)
            case facts.BenchFreed() as freed:
                key = (message.meta.pool, freed.bench)
                if not self._holder.pop(key, ""):
                    yield "freed though not held"
            case facts.ExecutionAssigned() as assigned:
                key = (message.meta.pool, assigned.bench)
                if assigned.fence <= self._fence.get(key, 0):
                    yield "each attempt has its fence"
                self._fence[key] = assigned.fence

    def _held(self, key: BenchKey, held: facts.BenchHeld) -> Iterator[str]:
        if held.fence <= self._held_with.get(key, 0):
            yield "fences rise strictly"
        if self._holder.get(key):
            yield f"held by {self._holder[key]} already"
        if held.fence < self._fence.get(key, 0):
            yield "fences rise"
        self._held_with[key] = held.fence
        self._holder[key] = held.holder_id
        self._fence[key] = max(held.fence, self._fence.get(key, 0))


class OneAttemptPerBench(Rule):
    """No two attempts on one bench, none while it is being cleaned (invariants 1, 4, 6)."""

    name = "one_attempt_per_bench"

    def __init__(self) -> None:
        self._busy: dict[BenchKey, str] = {}
        self._unclean: set[BenchKey] = set()

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        pool = message.meta.pool
        match message.body:
            case facts.ExecutionAssigned() as assigned:
                key = (pool, assigned.bench)
                if key in self._busy:
                    yield f"{self._busy[key]} is on it"
                if key in self._unclean:
                    yield "it is not clean"
                self._busy[key] = assigned.execution_id
            case facts.AttemptFinished() as finished:
                if self._busy.pop((pool, finished.bench), "") != finished.execution_id:
                    yield "its own attempt"
            case facts.BenchCleaning() as cleaning:
                self._unclean.add((pool, cleaning.bench))
            case facts.BenchCleaned() | facts.BenchRestored() as cleaned:
                self._unclean.discard((pool, cleaned.bench))
            case facts.BenchFreed() as freed:
                if (pool, freed.bench) in self._busy:
                    yield "freed under an attempt"


class HeldBenchesAreInUse(Rule):
    """A bench an execution holds has its attempt, or is being cleaned behind it."""

    name = "held_benches_are_in_use"

    def __init__(self) -> None:
        self._holder: dict[BenchKey, str] = {}
        """Executions that hold a bench."""
        self._attempts: dict[BenchKey, str] = {}
        self._unclean: set[BenchKey] = set()
        self._touched: set[BenchKey] = set()
        """Benches that the decision being read may leave held for nothing."""

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong once a decision is whole."""
        self._apply(message)
        if message.meta.index < message.meta.count - 1:
            return
        touched, self._touched = self._touched, set()
        for key in sorted(touched):
            holder = self._holder.get(key)
            if holder in (None, self._attempts.get(key)) or key in self._unclean:
                continue
            yield f"{key[1]} is held by {holder} for nothing"

    def _apply(self, message: EventMessage) -> None:
        pool = message.meta.pool
        match message.body:
            case facts.BenchHeld(holder_kind="execution") as held:
                self._holder[pool, held.bench] = held.holder_id
                self._touched.add((pool, held.bench))
            case facts.BenchFreed() as freed:
                self._holder.pop((pool, freed.bench), None)
            case facts.ExecutionAssigned() as assigned:
                self._attempts[pool, assigned.bench] = assigned.execution_id
            case facts.AttemptFinished() as finished:
                self._attempts.pop((pool, finished.bench), None)
                self._touched.add((pool, finished.bench))
            case facts.BenchCleaning() as cleaning:
                self._unclean.add((pool, cleaning.bench))
            case facts.BenchCleaned() | facts.BenchRestored() | facts.BenchQuarantined() as over:
                # Nobody waits for a quarantined bench to be clean.
                self._unclean.discard((pool, over.bench))
                self._touched.add((pool, over.bench))


class OneOutcomePerCommand(Rule):
    """The events of one command are one decision."""

    name = "one_outcome_per_command"

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        if meta.request_hash and meta.index == 0:
            if meta.causation_id in self._seen:
                yield f"command {meta.causation_id} is decided twice"
            self._seen.add(meta.causation_id)


class OneVerdictPerExecution(Rule):
    """An execution ends at most once, attempts are numbered from 1."""

    name = "one_verdict_per_execution"

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        """Of those that are open."""
        self._over: set[str] = set()

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        match message.body:
            case facts.ExecutionSubmitted() as submitted:
                name = submitted.execution_id
                if name in self._attempts or name in self._over:
                    yield "submitted twice"
                self._attempts[name] = 0
            case facts.ExecutionAssigned() as assigned:
                name = assigned.execution_id
                if name not in self._attempts:
                    yield "assigned though not open"
                if assigned.attempt != self._attempts.get(name, 0) + 1:
                    yield "attempts count"
                self._attempts[name] = assigned.attempt
            case facts.ExecutionFinished() as finished:
                if self._attempts.pop(finished.execution_id, None) is None:
                    yield "finished though not open"
                self._over.add(finished.execution_id)


class GangsAreAllOrNothing(Rule):
    """A reservation gets all its benches in the decision that grants it."""

    name = "gangs_are_all_or_nothing"

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        """Of those that wait."""
        self._decision = -1
        self._granted: dict[str, frozenset[str]] = {}
        """Benches of each reservation that this decision grants."""

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        first_seq = message.meta.seq - message.meta.index
        if first_seq != self._decision:
            self._decision, self._granted = first_seq, {}
        match message.body:
            case facts.ReservationRequested() as requested:
                self._wanted[requested.reservation_id] = len(requested.selectors)
            case facts.ReservationGranted() as grant:
                benches = frozenset(each.bench for each in grant.grants)
                if len(benches) != self._wanted.pop(grant.reservation_id, -1):
                    yield "all of them"
                self._granted[grant.reservation_id] = benches
            case facts.ReservationCancelled() as cancelled:
                self._wanted.pop(cancelled.reservation_id, None)
            case facts.BenchHeld(holder_kind="reservation") as held:
                if held.bench not in self._granted.get(held.holder_id, ()):
                    yield "at once"


class WordsAreOfTheOneWhoWasAsked(Rule):
    """What a worker is believed of an attempt comes from the worker that has it."""

    name = "words_are_of_the_one_who_was_asked"

    def __init__(self) -> None:
        self._worker: dict[str, str] = {}
        """Of the last attempt of each open execution."""
        self._epochs: dict[tuple[str, str], int] = {}

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        match message.body:
            case facts.WorkerRegistered() as registered:
                key = (message.meta.pool, registered.worker)
                if registered.epoch <= self._epochs.get(key, -1):
                    yield "the epochs of a worker rise"
                self._epochs[key] = registered.epoch
            case facts.ExecutionAssigned() as assigned:
                key = (message.meta.pool, assigned.worker)
                if assigned.epoch != self._epochs.get(key, assigned.epoch):
                    yield "a stale epoch: another life of the worker is the newest"
                self._worker[assigned.execution_id] = assigned.worker
            case facts.ExecutionFinished() as ended:
                self._worker.pop(ended.execution_id, None)
            case (
                facts.AttemptStepStarted()
                | facts.AttemptCasesRecorded()
                | facts.AttemptFinished() as said
            ):
                actor = message.meta.actor
                asked = f"worker:{self._worker.get(said.execution_id)}"
                # Of a worker that is lost, or said to begin anew, the scheduler itself speaks.
                is_word = actor.startswith("worker:") and not _is_given_up(said)
                if is_word and actor != asked:
                    yield f"a stale word: {asked} was asked"


def _is_given_up(event: object) -> bool:
    return isinstance(event, facts.AttemptFinished) and event.code == "worker_lost"


def rules_of(partition: int) -> list[Rule]:
    """Return every rule, fresh, for the journal of `partition`."""
    return [
        JournalIsDenseAndWhole(),
        TimeAndInputsGoForward(),
        NoInputIsDecidedTwice(),
        FactsAreTheSchedulers(partition),
        OneHolderAndRisingFences(),
        OneAttemptPerBench(),
        HeldBenchesAreInUse(),
        OneOutcomePerCommand(),
        OneVerdictPerExecution(),
        InfrastructureIsNotATestFailure(),
        OnlyFaultsOfBenchesCount(),
        AttemptsGoWhereTheyAreServed(),
        GangsAreAllOrNothing(),
        WordsAreOfTheOneWhoWasAsked(),
        OneLifeOfAWorker(),
        LeasesLastAsAsked(),
    ]
