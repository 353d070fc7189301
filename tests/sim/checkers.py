"""The invariants, each as a checker over what is on the log. A checker raises `Violated`.

Fed with the events of one partition in journal order, from any source: a decision, the log in
memory, a real broker.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from events import facts
from events.dlq import DeadLetter
from events.message import EventMessage
from events.results import ExecutionResult


class Violated(AssertionError):
    """Raised when an invariant does not hold; the text names it and the event."""


def _claim(condition: bool, rule: str, message: EventMessage | None = None) -> None:
    if not condition:
        raise Violated(f"{rule}: {message}")


def journal_is_dense_and_whole(events: Sequence[EventMessage]) -> None:
    """`seq` has no hole, and every decision is there from first to last."""
    left = 0
    for seq, message in enumerate(events):
        meta = message.meta
        _claim(meta.seq == seq, f"seq {seq} was due", message)
        if left == 0:
            _claim(meta.index == 0, "a decision begins at index 0", message)
        else:
            _claim(meta.index == meta.count - left, "decisions are whole", message)
        left = meta.count - meta.index - 1
    _claim(left == 0, "the last decision is whole", events[-1] if events else None)


def one_holder_and_rising_fences(events: Sequence[EventMessage]) -> None:
    """A bench has at most one holder; its fence rises with each grant (invariant 1)."""
    holder: dict[tuple[str, str], str] = {}
    fence: dict[tuple[str, str], int] = {}
    held_with: dict[tuple[str, str], int] = {}
    for message in events:
        match message.body:
            case facts.BenchHeld() as held:
                key = (message.meta.pool, held.bench)
                _claim(held.fence > held_with.get(key, 0), "fences rise strictly", message)
                held_with[key] = held.fence
                _claim(not holder.get(key), f"held by {holder.get(key)} already", message)
                _claim(held.fence >= fence.get(key, 0), "fences rise", message)
                holder[key], fence[key] = held.holder_id, max(held.fence, fence.get(key, 0))
            case facts.BenchFreed() as freed:
                key = (message.meta.pool, freed.bench)
                _claim(bool(holder.get(key)), "freed though not held", message)
                holder[key] = ""
            case facts.ExecutionAssigned() as assigned:
                key = (message.meta.pool, assigned.bench)
                _claim(assigned.fence > fence.get(key, 0), "each attempt has its fence", message)
                fence[key] = assigned.fence


def one_attempt_per_bench(events: Sequence[EventMessage]) -> None:
    """No two attempts on one bench, none while it is being cleaned (invariants 1, 4, 6)."""
    busy: dict[tuple[str, str], str] = {}
    unclean: set[tuple[str, str]] = set()
    for message in events:
        pool = message.meta.pool
        match message.body:
            case facts.ExecutionAssigned() as assigned:
                key = (pool, assigned.bench)
                _claim(key not in busy, f"{busy.get(key)} is on it", message)
                _claim(key not in unclean, "it is not clean", message)
                busy[key] = assigned.execution_id
            case facts.AttemptFinished() as finished:
                key = (pool, finished.bench)
                _claim(busy.pop(key, "") == finished.execution_id, "its own attempt", message)
            case facts.BenchCleaning() as cleaning:
                unclean.add((pool, cleaning.bench))
            case facts.BenchCleaned() as cleaned:
                unclean.discard((pool, cleaned.bench))
            case facts.BenchRestored() as restored:
                unclean.discard((pool, restored.bench))
            case facts.BenchFreed() as freed:
                _claim((pool, freed.bench) not in busy, "freed under an attempt", message)


def one_outcome_per_command(events: Sequence[EventMessage]) -> None:
    """The events of one command are one decision (invariant 3)."""
    seen: set[str] = set()
    for message in events:
        meta = message.meta
        if meta.request_hash and meta.index == 0:
            _claim(meta.causation_id not in seen, "decided twice", message)
            seen.add(meta.causation_id)


@dataclass
class _Lives:
    open: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)


def one_verdict_per_execution(events: Sequence[EventMessage]) -> None:
    """An execution ends at most once, attempts are numbered from 1 (invariant 4)."""
    lives = _Lives()
    attempts: dict[str, int] = {}
    for message in events:
        match message.body:
            case facts.ExecutionSubmitted() as submitted:
                name = submitted.execution_id
                _claim(name not in lives.open | lives.over, "submitted twice", message)
                lives.open.add(name)
            case facts.ExecutionAssigned() as assigned:
                name = assigned.execution_id
                _claim(name in lives.open, "assigned though not open", message)
                _claim(assigned.attempt == attempts.get(name, 0) + 1, "attempts count", message)
                attempts[name] = assigned.attempt
            case facts.ExecutionFinished() as finished:
                name = finished.execution_id
                _claim(name in lives.open, "finished though not open", message)
                lives.open.remove(name)
                lives.over.add(name)


def infrastructure_is_not_a_test_failure(events: Sequence[EventMessage]) -> None:
    """A lost worker never fails a test; failed tests are retried only if asked (invariant 9)."""
    last: dict[str, facts.AttemptFinished] = {}
    asked: dict[str, int] = {}
    for message in events:
        match message.body:
            case facts.ExecutionSubmitted() as submitted:
                asked[submitted.execution_id] = submitted.retries_on_failure
            case facts.AttemptFinished() as finished:
                if finished.code in ("worker_lost", "attempt_overdue"):
                    _claim(finished.verdict == "error", "an error of the lab", message)
                last[finished.execution_id] = finished
            case facts.ExecutionRequeued() as requeued:
                verdict = last[requeued.execution_id].verdict
                if verdict == "failed":
                    asked[requeued.execution_id] -= 1
                    _claim(asked[requeued.execution_id] >= 0, "retried unasked", message)
                else:
                    _claim(verdict == "error", "only errors of the lab are retried", message)
            case facts.ExecutionFinished(verdict="failed") as failed:
                verdict = last[failed.execution_id].verdict
                _claim(verdict == "failed", "a failure comes from an attempt", message)


def gangs_are_all_or_nothing(events: Sequence[EventMessage]) -> None:
    """A reservation gets all its benches in the decision that grants it (invariant 5)."""
    wanted: dict[str, int] = {}
    granted: dict[str, tuple[int, set[str]]] = {}
    for message in events:
        meta = message.meta
        first_seq = meta.seq - meta.index
        match message.body:
            case facts.ReservationRequested() as requested:
                wanted[requested.reservation_id] = len(requested.selectors)
            case facts.ReservationGranted() as grant:
                benches = {each.bench for each in grant.grants}
                _claim(len(benches) == wanted[grant.reservation_id], "all of them", message)
                granted[grant.reservation_id] = (first_seq, benches)
            case facts.BenchHeld(holder_kind="reservation") as held:
                decision, benches = granted.get(held.holder_id, (-1, set()))
                _claim(decision == first_seq and held.bench in benches, "at once", message)


def words_are_of_the_one_who_was_asked(events: Sequence[EventMessage]) -> None:
    """What a worker is believed of an attempt comes from the worker that has it (invariant 8)."""
    worker_of: dict[str, str] = {}
    for message in events:
        actor = message.meta.actor
        match message.body:
            case facts.ExecutionAssigned() as assigned:
                worker_of[assigned.execution_id] = assigned.worker
            case (
                facts.AttemptStepStarted()
                | facts.AttemptCasesRecorded()
                | facts.AttemptFinished() as said
            ):
                # Of a worker that is lost, or said to begin anew, the scheduler itself speaks.
                is_word = actor.startswith("worker:") and not _is_given_up(said)
                asked = f"worker:{worker_of.get(said.execution_id)}"
                _claim(not is_word or actor == asked, f"a stale word: {asked} was asked", message)


def _is_given_up(event: object) -> bool:
    return isinstance(event, facts.AttemptFinished) and event.code == "worker_lost"


Checker = Callable[[Sequence[EventMessage]], None]
CHECKERS: tuple[Checker, ...] = (
    journal_is_dense_and_whole,
    one_holder_and_rising_fences,
    one_attempt_per_bench,
    one_outcome_per_command,
    one_verdict_per_execution,
    infrastructure_is_not_a_test_failure,
    gangs_are_all_or_nothing,
    words_are_of_the_one_who_was_asked,
)


def check_journal(events: Iterable[EventMessage]) -> None:
    """Run every checker over the events of one partition."""
    journal = list(events)
    for checker in CHECKERS:
        checker(journal)


def check_results(events: Iterable[EventMessage], results: Iterable[ExecutionResult]) -> None:
    """Each finished execution has exactly one result, with the same verdict."""
    finished = {
        message.body.execution_id: message.body.verdict
        for message in events
        if isinstance(message.body, facts.ExecutionFinished)
    }
    told = [(result.execution_id, result.verdict) for result in results]
    if sorted(told) != sorted(finished.items()):
        raise Violated(f"results {sorted(told)} are not the ends {sorted(finished.items())}")


def check_letters(events: Iterable[EventMessage], letters: Iterable[DeadLetter]) -> None:
    """Each execution that ended as the lab's error has one dead letter; nothing else has any."""
    given_up = sorted(
        message.body.execution_id
        for message in events
        if isinstance(message.body, facts.ExecutionFinished) and message.body.verdict == "error"
    )
    kept = sorted(letter.execution_id or f"a record: {letter.error}" for letter in letters)
    if kept != given_up:
        raise Violated(f"dead letters {kept} are not the executions given up {given_up}")
