"""Each checker objects to histories that break its rule, and to no other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from events import facts
from events.commands import Command
from events.facts import (
    AttemptFinished,
    BenchFreed,
    BenchHeld,
    BenchQuarantined,
    ExecutionAssigned,
    ExecutionFinished,
    ExecutionRequeued,
    ExecutionSubmitted,
    ReservationGranted,
    WorkerRegistered,
)
from events.message import EventMessage
from events.shared import HealthPolicy
from processors.audit import checkers
from processors.audit.checkers import (
    CHECKERS,
    Checker,
    Violated,
    check_journal,
    check_letters,
    check_results,
)
from processors.audit.rules import FactsAreTheSchedulers, rules_of
from processors.scheduler import evolve
from processors.scheduler.workers import FAULTS_MAX
from processors.watchers.bench_health.rule import ACTOR
from tests.unit.processors.audit.given import (
    changed,
    honest,
    inserted,
    jumped,
    kinds,
    without,
)
from tests.unit.processors.scheduler.history import reserve, submit

History = Sequence[EventMessage]
Break = Callable[[History], History]


def nth(events: History, kind: type, which: int = 0) -> int:
    return kinds(events, kind)[which]


def again(kind: type, which: int = 0) -> Break:
    """Return what puts an event there a second time, at the end."""
    return lambda events: inserted(events, len(events), events[nth(events, kind, which)].body)


def stale(events: History) -> History:
    place = nth(events, AttemptFinished)
    return changed(events, place, meta={"actor": "worker:w9"})


def assigned_to_an_old_life(events: History) -> History:
    place = nth(events, ExecutionAssigned)
    return changed(events, place, epoch=0)


def earlier(events: History) -> History:
    place = nth(events, ExecutionFinished)
    at = events[0].meta.occurred_at - timedelta(seconds=1)
    return changed(events, place, meta={"occurred_at": at})


def same_input_again(events: History) -> History:
    last = next(each for each in reversed(events) if each.meta.input_topic)
    return inserted(
        events,
        len(events),
        facts.BenchOnline(bench="b1"),
        input_topic=last.meta.input_topic,
        input_offset=last.meta.input_offset,
        occurred_at=events[-1].meta.occurred_at,
    )


def over_at_once(events: History) -> History:
    place = nth(events, ReservationGranted)
    over = facts.ReservationExpired(reservation_id="gang", code="lease_expired", reason="")
    return inserted(events, place + 1, over)


def suspended(code: str) -> facts.WorkerSuspended:
    return facts.WorkerSuspended(worker="w1", epoch=1, code=code, reason="no space left")


def five_faults_before_an_assignment(events: History) -> History:
    place = nth(events, ExecutionAssigned, 2)
    fault = replace(events[nth(events, AttemptFinished)].body, verdict="error", fault="worker")
    for _ in range(FAULTS_MAX - 1):  # One there is already.
        events = inserted(events, place, fault)
    return events


def same_input_after_a_reset(events: History) -> History:
    """The inputs are read anew from too early on: nothing else objects."""
    last = next(each for each in reversed(events) if each.meta.input_topic)
    at = events[-1].meta.occurred_at
    reset = facts.InputsReset(
        topic=last.meta.input_topic,
        topic_id="",
        next_offset=last.meta.input_offset,
        was_offset=last.meta.input_offset + 1,
        reason="",
    )
    ended = inserted(events, len(events), reset, input_topic="", occurred_at=at)
    given = {
        name: getattr(last.meta, name) for name in ("input_topic", "input_offset", "causation_id")
    }
    again = facts.HealthPolicySet(health=HealthPolicy(errors_max=1, window_s=1.0))
    return inserted(ended, len(ended), again, occurred_at=at, request_hash="", **given)


BROKEN: list[tuple[Checker, str, Break]] = [
    (checkers.journal_is_dense_and_whole, "was due", lambda e: [*e[:5], *e[6:]]),
    (checkers.journal_is_dense_and_whole, "was due", lambda e: [*e[:5], e[4], *e[5:]]),
    (checkers.journal_is_dense_and_whole, "whole", lambda e: e[:1]),
    (
        checkers.journal_is_dense_and_whole,
        "begins at index 0",
        lambda e: changed(e, 0, meta={"index": 1}),
    ),
    (checkers.one_holder_and_rising_fences, "held by", lambda e: without(e, nth(e, BenchFreed))),
    (
        checkers.one_holder_and_rising_fences,
        "though not held",
        lambda e: inserted(e, nth(e, BenchHeld), facts.BenchFreed(bench="b3", fence=1, reason="")),
    ),
    (
        checkers.one_holder_and_rising_fences,
        "fences rise strictly",
        lambda e: changed(e, nth(e, BenchHeld, -1), fence=1),
    ),
    (
        checkers.one_holder_and_rising_fences,
        "each attempt has its fence",
        lambda e: changed(e, nth(e, ExecutionAssigned, -1), fence=1),
    ),
    (
        checkers.one_attempt_per_bench,
        "is on it",
        lambda e: inserted(e, nth(e, ExecutionAssigned) + 1, e[nth(e, ExecutionAssigned)].body),
    ),
    (checkers.one_attempt_per_bench, "its own attempt", again(AttemptFinished)),
    (
        checkers.one_attempt_per_bench,
        "not clean",
        lambda e: inserted(
            e, nth(e, ExecutionAssigned), facts.BenchCleaning(bench="b3", fence=1, reason="")
        ),
    ),
    (
        checkers.one_attempt_per_bench,
        "freed under an attempt",
        lambda e: inserted(
            e, nth(e, AttemptFinished), facts.BenchFreed(bench="b3", fence=1, reason="")
        ),
    ),
    (
        checkers.held_benches_are_in_use,
        "b3 is held by e1 for nothing",
        lambda e: without(e, nth(e, BenchFreed)),
    ),
    (
        checkers.one_outcome_per_command,
        "decided twice",
        lambda e: inserted(
            e,
            len(e),
            facts.CommandRejected(command="c", code="c", reason="", subject_id=""),
            causation_id=e[0].meta.causation_id,
            request_hash="h",
        ),
    ),
    (checkers.one_verdict_per_execution, "submitted twice", again(ExecutionSubmitted)),
    (checkers.one_verdict_per_execution, "though not open", again(ExecutionFinished)),
    (
        checkers.one_verdict_per_execution,
        "assigned though not open",
        lambda e: without(e, nth(e, ExecutionSubmitted)),
    ),
    (
        checkers.one_verdict_per_execution,
        "attempts count",
        lambda e: changed(e, nth(e, ExecutionAssigned), attempt=2),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "an error of the lab",
        lambda e: changed(e, nth(e, AttemptFinished), code="worker_lost", verdict="failed"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "a failure comes from an attempt",
        lambda e: changed(e, nth(e, ExecutionFinished), verdict="failed"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "only errors of the lab",
        lambda e: changed(e, nth(e, AttemptFinished, 2), verdict="passed", fault=""),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "retried unasked",
        lambda e: changed(e, nth(e, ExecutionSubmitted, 2), retries_on_failure=0),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "is told as failed",
        lambda e: changed(e, nth(e, AttemptFinished, 2), fault="bench"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "an error is told as the fault of test",
        lambda e: changed(e, nth(e, AttemptFinished, 1), fault="test"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "and yet the fault of test",
        lambda e: changed(e, nth(e, AttemptFinished, 0), fault="test", verdict="cancelled"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "it says 'store'",
        lambda e: changed(e, nth(e, ExecutionFinished, 1), fault="store"),
    ),
    (
        checkers.infrastructure_is_not_a_test_failure,
        "the asker did wrong is tried again",
        lambda e: changed(e, nth(e, AttemptFinished, 2), fault="asker"),
    ),
    (
        checkers.only_faults_of_benches_count,
        "b3 is taken out for what was not its fault",
        lambda e: inserted(e, len(e), BenchQuarantined(bench="b3", reason=""), actor=ACTOR),
    ),
    (
        checkers.attempts_go_where_they_are_served,
        "w1 is suspended",
        lambda e: inserted(e, nth(e, ExecutionAssigned), suspended("state_unusable")),
    ),
    (
        checkers.attempts_go_where_they_are_served,
        "after 5 faults of its own",
        five_faults_before_an_assignment,
    ),
    (
        checkers.attempts_go_where_they_are_served,
        "which it did not take",
        lambda e: changed(e, nth(e, WorkerRegistered), life="one that is asked"),
    ),
    (
        checkers.attempts_go_where_they_are_served,
        "a stale word",
        lambda e: inserted(
            e,
            len(e) - 1,
            facts.BenchChecksRecorded(worker="w1", epoch=1, checks=()),
            actor="worker:w2",
        ),
    ),
    (
        checkers.gangs_are_all_or_nothing,
        "all of them",
        lambda e: changed(
            e,
            nth(e, ReservationGranted),
            grants=e[nth(e, ReservationGranted)].body.grants[:1],  # type: ignore[union-attr]
        ),
    ),
    (
        checkers.gangs_are_all_or_nothing,
        "at once",
        lambda e: inserted(
            e,
            len(e),
            facts.BenchHeld(bench="b1", fence=99, holder_kind="reservation", holder_id="gang"),
        ),
    ),
    (checkers.words_are_of_the_one_who_was_asked, "a stale word", stale),
    (checkers.words_are_of_the_one_who_was_asked, "a stale epoch", assigned_to_an_old_life),
    (checkers.words_are_of_the_one_who_was_asked, "epochs", again(WorkerRegistered)),
    (
        checkers.one_life_of_a_worker,
        "given to life 'other'",
        lambda e: changed(e, nth(e, ExecutionAssigned), life="other"),
    ),
    (checkers.time_and_inputs_go_forward, "time goes back", earlier),
    (checkers.leases_last_as_asked, "its lease is over", over_at_once),
    (checkers.time_and_inputs_go_forward, "decided twice", same_input_again),
    (checkers.no_input_is_decided_twice, "decided twice", same_input_after_a_reset),
]


@pytest.mark.parametrize(
    ("body", "seconds", "words"),
    [
        (reserve("r1"), 100.0, "its lease is over 50"),
        (reserve("r1", wait_timeout_s=60.0), 100.0, "its wait is over"),
        (submit("e1", selector="n=b1"), 1_000.0, "its attempt is over"),
        (submit("e1", selector="n=b1", wait_timeout_s=60.0), 100.0, "its wait is over"),
    ],
)
def test_what_a_jump_ended_is_objected_to(
    monkeypatch: pytest.MonkeyPatch, body: Command, seconds: float, words: str
) -> None:
    """Off: that every deadline moves with the clock."""
    check_journal(jumped(body, seconds).events)
    monkeypatch.setattr(evolve, "shift", lambda *_: None)
    with pytest.raises(Violated, match=words):
        checkers.leases_last_as_asked(jumped(body, seconds).events)


def test_a_command_that_two_partitions_decide_is_objected_to() -> None:
    events = honest().events
    command = next(each for each in events if each.meta.request_hash)
    checkers.check_commands([events, []])
    with pytest.raises(Violated, match="in two partitions"):
        checkers.check_commands([events, [command]])


@pytest.mark.parametrize(("checker", "words", "broken"), BROKEN)
def test_a_broken_history_is_objected_to(checker: Checker, words: str, broken: Break) -> None:
    events = broken(honest().events)
    with pytest.raises(Violated, match=words):
        checker(events)
    with pytest.raises(Violated):
        check_journal(events)


def test_every_checker_can_fail_and_an_honest_history_passes() -> None:
    assert {checker for checker, _, _ in BROKEN} == set(CHECKERS)
    check_journal(honest().events)
    assert kinds(honest().events, ExecutionRequeued)


def test_every_rule_has_its_checker() -> None:
    names = {rule.name for rule in rules_of(0)} - {FactsAreTheSchedulers.name}
    assert names == {checker.__name__ for checker in CHECKERS}


def test_an_event_with_an_id_of_its_own_is_not_the_schedulers() -> None:
    events = honest().events
    assert [text for e in events for text in FactsAreTheSchedulers(0).see(e)] == []
    forged = changed(events, 3, meta={"event_id": events[2].meta.event_id})
    assert len([text for e in forged for text in FactsAreTheSchedulers(0).see(e)]) == 1
    assert list(FactsAreTheSchedulers(1).see(events[0])), "the partition is part of the id"


def test_a_rule_reads_on_after_a_fault() -> None:
    events = honest().events
    rules = rules_of(0)
    broken = [*events[:5], *events[6:]]
    found = [text for each in broken for rule in rules for text in rule.see(each)]
    assert found
    assert len(found) < 10, "one fault does not make everything after it wrong"


def test_results_and_letters_are_the_ends() -> None:
    history = honest()
    check_results(history.events, history.results)
    check_letters(history.events, history.letters)
    assert history.letters
    for results in (
        history.results[1:],
        [*history.results, history.results[0]],
        [replace(history.results[0], verdict="timed_out"), *history.results[1:]],
    ):
        with pytest.raises(Violated):
            check_results(history.events, results)
    for letters in ([], [*history.letters, *history.letters]):
        with pytest.raises(Violated):
            check_letters(history.events, letters)
