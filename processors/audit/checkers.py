"""The invariants, each as a checker over what is on the log. A checker raises `Violated`.

Fed with the events of one partition in journal order, from any source: a decision, the log in
memory, a real broker. `rules.py` has the rules themselves.
"""

from collections.abc import Callable, Iterable, Sequence

from events import facts
from events.dlq import DeadLetter
from events.message import EventMessage, ReportMessage
from events.results import ExecutionResult
from processors.audit import durations, input_rules, rules
from processors.audit.fault_rules import InfrastructureIsNotATestFailure, OnlyFaultsOfBenchesCount
from processors.audit.lives import OneLifeOfAWorker, OneProcessPerWorker
from processors.audit.rule import Rule
from processors.audit.service_rules import AttemptsGoWhereTheyAreServed


class Violated(AssertionError):
    """Raised when an invariant does not hold; the text names it and the event."""


def _obey(rule: Rule, events: Sequence[EventMessage]) -> None:
    for message in events:
        for text in rule.see(message):
            raise Violated(f"{text}: {message}")
    for text in rule.end():
        raise Violated(f"{text}: {events[-1] if events else None}")


def journal_is_dense_and_whole(events: Sequence[EventMessage]) -> None:
    """`seq` has no hole, and every decision is there from first to last."""
    _obey(rules.JournalIsDenseAndWhole(), events)


def time_and_inputs_go_forward(events: Sequence[EventMessage]) -> None:
    """Log time never goes back; of each input topic the offsets that are decided rise."""
    _obey(rules.TimeAndInputsGoForward(), events)


def no_input_is_decided_twice(events: Sequence[EventMessage]) -> None:
    """One input at one place leads to one decision, also where inputs were read anew."""
    _obey(input_rules.NoInputIsDecidedTwice(), events)


def one_holder_and_rising_fences(events: Sequence[EventMessage]) -> None:
    """A bench has at most one holder; its fence rises with each grant."""
    _obey(rules.OneHolderAndRisingFences(), events)


def one_attempt_per_bench(events: Sequence[EventMessage]) -> None:
    """No two attempts on one bench, none while it is being cleaned (invariants 1, 4, 6)."""
    _obey(rules.OneAttemptPerBench(), events)


def held_benches_are_in_use(events: Sequence[EventMessage]) -> None:
    """A bench an execution holds has its attempt, or is being cleaned behind it."""
    _obey(rules.HeldBenchesAreInUse(), events)


def one_outcome_per_command(events: Sequence[EventMessage]) -> None:
    """The events of one command are one decision."""
    _obey(rules.OneOutcomePerCommand(), events)


def one_verdict_per_execution(events: Sequence[EventMessage]) -> None:
    """An execution ends at most once, attempts are numbered from 1."""
    _obey(rules.OneVerdictPerExecution(), events)


def infrastructure_is_not_a_test_failure(events: Sequence[EventMessage]) -> None:
    """An error is the lab's, a failure never is, and is retried only if asked."""
    _obey(InfrastructureIsNotATestFailure(), events)


def only_faults_of_benches_count(events: Sequence[EventMessage]) -> None:
    """The watcher takes no bench out that had no fault of its own."""
    _obey(OnlyFaultsOfBenchesCount(), events)


def attempts_go_where_they_are_served(events: Sequence[EventMessage]) -> None:
    """Attempts go to workers that are fit, on benches that they took as they are."""
    _obey(AttemptsGoWhereTheyAreServed(), events)


def gangs_are_all_or_nothing(events: Sequence[EventMessage]) -> None:
    """A reservation gets all its benches in the decision that grants it."""
    _obey(rules.GangsAreAllOrNothing(), events)


def words_are_of_the_one_who_was_asked(events: Sequence[EventMessage]) -> None:
    """What a worker is believed of an attempt comes from the worker that has it."""
    _obey(rules.WordsAreOfTheOneWhoWasAsked(), events)


def one_life_of_a_worker(events: Sequence[EventMessage]) -> None:
    """Of each worker one life is registered at a time, and it alone is given anything to do."""
    _obey(OneLifeOfAWorker(), events)


def leases_last_as_asked(events: Sequence[EventMessage]) -> None:
    """A lease, a wait and an attempt are not over before their time, jumps of the clock aside."""
    _obey(durations.LeasesLastAsAsked(), events)


Checker = Callable[[Sequence[EventMessage]], None]
CHECKERS: tuple[Checker, ...] = (
    journal_is_dense_and_whole,
    one_holder_and_rising_fences,
    one_attempt_per_bench,
    held_benches_are_in_use,
    one_outcome_per_command,
    one_verdict_per_execution,
    infrastructure_is_not_a_test_failure,
    only_faults_of_benches_count,
    attempts_go_where_they_are_served,
    gangs_are_all_or_nothing,
    words_are_of_the_one_who_was_asked,
    one_life_of_a_worker,
    time_and_inputs_go_forward,
    leases_last_as_asked,
    no_input_is_decided_twice,
)


def check_journal(events: Iterable[EventMessage]) -> None:
    """Run every checker over the events of one partition."""
    journal = list(events)
    for checker in CHECKERS:
        checker(journal)


def check_reports(reports: Iterable[ReportMessage]) -> None:
    """What workers said of their work comes from one process each."""
    rule = OneProcessPerWorker()
    for message in reports:
        for text in rule.see(message):
            raise Violated(f"{text}: {message}")


def check_commands(partitions: Iterable[Iterable[EventMessage]]) -> None:
    """Each command is decided in one partition at most."""
    where: dict[str, int] = {}
    for number, events in enumerate(partitions):
        for meta in (message.meta for message in events):
            if meta.request_hash and where.setdefault(meta.causation_id, number) != number:
                raise Violated(f"command {meta.causation_id} is decided in two partitions: {meta}")


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
