"""What the saga decides between attempts, and what operators set: given, when, then."""

import pytest

from events import facts, tasks
from events.codec import decode_command
from events.commands import (
    ApplyBenches,
    DiscardDeadLetter,
    DrainWorker,
    QuarantineBench,
    ReplayDeadLetter,
    SubmitExecution,
)
from events.reports import WorkerHeartbeat
from events.shared import BenchSpec, HealthPolicy, StepPolicy
from tests.unit.processors.scheduler.history import (
    History,
    ended,
    lab,
    names,
    started,
    submit,
)


def finished(events: list[facts.Event]) -> facts.ExecutionFinished:
    (event,) = (e for e in events if isinstance(e, facts.ExecutionFinished))
    return event


def test_given_failed_tests_when_retries_on_failure_are_left_then_again_at_once() -> None:
    history = lab("b1")
    history.ask(submit("e", retries_on_failure=1))
    events = history.report(ended(history, "e", "failed"))
    assert names(events)[:2] == ["AttemptFinished", "ExecutionRequeued"]
    assert "ExecutionAssigned" in names(events)
    end = finished(history.report(ended(history, "e", "passed")))
    assert (end.verdict, end.attempts, end.is_flaky) == ("passed", 2, True)
    assert history.results[0].is_flaky
    history.check()


def test_given_failed_tests_when_not_asked_then_never_again() -> None:
    history = lab("b1")
    history.ask(submit("e"))
    end = finished(history.report(ended(history, "e", "failed")))
    assert (end.verdict, end.attempts, end.is_flaky) == ("failed", 1, False)
    history.check()


def test_given_all_tries_failed_then_failed_and_not_flaky() -> None:
    history = lab("b1")
    history.ask(submit("e", retries_on_failure=1))
    history.report(ended(history, "e", "failed"))
    end = finished(history.report(ended(history, "e", "failed")))
    assert (end.verdict, end.attempts, end.is_flaky) == ("failed", 2, False)
    history.check()


def test_given_a_command_that_cannot_be_started_then_never_again() -> None:
    history = lab("b1")
    history.ask(submit("e", retries_on_failure=3))
    end = finished(history.report(ended(history, "e", "failed", code="cannot_start")))
    assert (end.verdict, end.code) == ("failed", "cannot_start")


def test_errors_and_failures_have_budgets_of_their_own() -> None:
    history = lab("b1", "b2")
    history.ask(submit("e", retries=1, retries_on_failure=1))
    history.report(ended(history, "e", "failed"))
    history.report(ended(history, "e", "error"))
    history.after(5.0)
    end = finished(history.report(ended(history, "e", "failed")))
    assert (end.verdict, end.attempts) == ("failed", 3)
    history.check()


def test_given_a_cancel_when_the_tests_fail_meanwhile_then_not_again() -> None:
    history = lab("b1")
    history.ask(submit("e", retries_on_failure=3))
    execution = history.ledger.pools["lab"].executions["e"]
    execution.cancel = ("cancelled_by_user", "by ann")
    assert finished(history.report(ended(history, "e", "failed"))).verdict == "failed"


def test_given_an_error_when_another_bench_is_free_then_never_the_same_twice_in_a_row() -> None:
    history = lab("b1", "b2")
    history.ask(submit("e", retries=3))
    benches = [history.ledger.pools["lab"].executions["e"].bench]
    for _ in range(3):
        history.report(ended(history, "e", "error"))
        history.report(WorkerHeartbeat(running=()))
        history.after(5.0)
        benches.append(history.ledger.pools["lab"].executions["e"].bench)
    assert benches == ["b1", "b2", "b1", "b2"]


def test_given_an_execution_out_of_retries_then_a_letter_that_would_run_it_once_more() -> None:
    history = lab("b1")
    history.ask(submit("e", retries=0, selector="board=rpi4"))
    history.report(ended(history, "e", "error", code="provision_failed", reason="no power"))
    (letter,) = history.letters
    assert (letter.kind, letter.execution_id, letter.pool) == ("execution", "e", "lab")
    assert "no power" in letter.error
    command = decode_command(letter.value)
    assert isinstance(command.body, SubmitExecution)
    assert command.body.selector == "board=rpi4"
    first = history.ask(command.body, command_id=command.meta.command_id)
    assert "ExecutionSubmitted" in names(first)
    assert history.ask(command.body, command_id=command.meta.command_id) == []
    history.check()


@pytest.mark.parametrize("verdict", ["passed", "failed", "timed_out"])
def test_given_an_end_that_is_not_the_labs_error_then_no_letter(verdict: str) -> None:
    history = lab("b1")
    history.ask(submit("e", retries=0))
    history.report(ended(history, "e", verdict))
    assert history.letters == []


def test_given_a_worker_when_drained_then_it_is_told_and_gets_nothing_more() -> None:
    history = lab("b1")
    assert "WorkerDrained" in names(history.ask(DrainWorker(worker="w1", reason="")))
    assert isinstance(history.orders[-1][1], tasks.LeaveWhenIdle)
    assert "ExecutionAssigned" not in names(history.ask(submit("e")))
    history.check()


def test_given_a_bench_in_quarantine_when_asked_again_then_refused_and_its_reason_stays() -> None:
    history = lab("b1")
    history.ask(QuarantineBench(bench="b1", reason="relay sticks"))
    (refused,) = history.ask(QuarantineBench(bench="b1", reason="too many errors"))
    assert isinstance(refused, facts.CommandRejected)
    assert (refused.code, "relay sticks" in refused.reason) == ("already_quarantined", True)
    assert history.ledger.pools["lab"].benches["b1"].quarantine == "relay sticks"


def test_given_no_such_worker_when_drained_then_refused() -> None:
    (refused,) = lab("b1").ask(DrainWorker(worker="w9", reason=""))
    assert isinstance(refused, facts.CommandRejected)
    assert (refused.code, refused.subject_id) == ("no_such_worker", "w9")


def test_dead_letters_can_be_settled_even_in_a_pool_that_does_not_exist() -> None:
    history = History()
    replayed = history.ask(ReplayDeadLetter(letter_id="0-7", reason="decoder mended"))
    assert replayed == [facts.DeadLetterReplayed(letter_id="0-7", reason="decoder mended")]
    assert names(history.ask(DiscardDeadLetter(letter_id="0-7", reason=""))) == [
        "DeadLetterDiscarded"
    ]
    assert [message.meta.actor for message in history.events] == ["ann", "ann"]


def bench(**changes: object) -> ApplyBenches:
    given = {"step": "provision", "timeout_s": 5.0, "retries": 1, "backoff_s": 1.0} | changes
    policy = StepPolicy(**given)  # type: ignore[arg-type]
    spec = BenchSpec(name="b1", labels={}, adapter="mock", config="{}", steps=(policy,))
    return ApplyBenches(benches=(spec,))


def test_limits_of_steps_go_to_the_worker_with_the_bench() -> None:
    history = History()
    history.ask(bench())
    history.report(started())
    history.ask(submit("e"))
    task = history.orders[-1][1]
    assert isinstance(task, tasks.RunAttempt)
    assert task.bench.steps[0].retries == 1


def test_an_attempt_is_overdue_only_after_all_tries_of_its_steps() -> None:
    history = History()
    history.ask(bench(timeout_s=1000.0, retries=1, backoff_s=100.0))
    history.report(started())
    history.ask(submit("e"))
    history.ask(bench(timeout_s=1.0))  # For the next attempt: this one has its limits.
    # 3,310 of 60 + 900 + 2 * 1,005 + 100 seconds, and 245 for a teardown between the two tries.
    for _ in range(331):
        history.beat()
        assert history.after(10.0) == []
    history.beat()
    assert "AttemptFinished" in names(history.after(10.0))


@pytest.mark.parametrize(
    "command",
    [
        bench(step="run"),
        bench(timeout_s=0.0),
        bench(retries=-1),
        bench(retries=99),
        bench(backoff_s=-1.0),
        ApplyBenches(benches=(), health=HealthPolicy(errors_max=1, window_s=1.0)),
        ApplyBenches(benches=bench().benches, health=HealthPolicy(errors_max=-1, window_s=1.0)),
        ApplyBenches(benches=bench().benches, health=HealthPolicy(errors_max=1, window_s=0.0)),
    ],
)
def test_limits_that_make_no_sense_are_refused(command: ApplyBenches) -> None:
    (refused,) = History().ask(command)
    assert isinstance(refused, facts.CommandRejected)
    assert refused.code == "invalid_bench"


def test_the_rule_for_sick_benches_is_a_fact_of_the_pool() -> None:
    rule = HealthPolicy(errors_max=2, window_s=600.0)
    history = lab("b1")
    assert history.ask(ApplyBenches(benches=(), health=rule)) == [
        facts.HealthPolicySet(health=rule)
    ]
