"""Reports that must change nothing: each is refused for its own reason, whatever came before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.commands import CancelExecution
from events.errors import TooLate
from events.message import Message
from events.reports import (
    AttemptEnded,
    BenchTornDown,
    Report,
    ResultsCollected,
    StepStarted,
    WorkerDraining,
    WorkerHeartbeat,
    WorkerStopped,
)
from events.shared import AttemptRef, CommandMeta, Totals
from processors.scheduler import core
from processors.scheduler.decision import Input
from processors.scheduler.evolve import IDEMPOTENCY_WINDOW
from processors.scheduler.state import Ledger
from tests.unit.processors.scheduler.history import (
    CASE,
    START,
    History,
    ended,
    lab,
    started,
    submit,
)

TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)


def running() -> History:
    """An attempt that is in its second step: fence 1, attempt 1, worker w1 in life 1."""
    history = lab("b1", "b2")
    history.ask(submit("e1", selector="n=b1"))
    for step in ("provision", "run"):
        history.report(StepStarted(execution_id="e1", attempt=1, fence=1, step=step, handle="h"))
    history.report(cases(0))
    return history


def step(name: str, *, execution_id: str = "e1", attempt: int = 1, fence: int = 1) -> StepStarted:
    return StepStarted(execution_id=execution_id, attempt=attempt, fence=fence, step=name)


def cases(first: int, *, fence: int = 1) -> ResultsCollected:
    return ResultsCollected(
        execution_id="e1", attempt=1, fence=fence, first_case=first, cases=(CASE,)
    )


def end(*, execution_id: str = "e1", attempt: int = 1, fence: int = 1) -> AttemptEnded:
    return AttemptEnded(
        execution_id=execution_id,
        attempt=attempt,
        fence=fence,
        verdict="passed",
        code="passed",
        reason="",
        totals=TOTALS,
        artifacts=(),
        is_retriable=False,
        teardown_error="",
    )


def torn_down(fence: int = 1) -> BenchTornDown:
    return BenchTornDown(execution_id="e1", attempt=1, fence=fence, bench="b1", error="")


@pytest.mark.parametrize(
    ("report", "worker", "epoch", "reason"),
    [
        (step("collect"), "w9", 1, "unknown_worker"),
        (end(), "w1", 0, "other_epoch"),
        (end(), "w1", 2, "other_epoch"),
        (WorkerHeartbeat(running=()), "w1", 0, "other_epoch"),
        (WorkerStopped(reason=""), "w1", 0, "other_epoch"),
        (started(), "w1", 0, "other_epoch"),
        (started(), "w1", 1, "repeat"),
        (step("collect", execution_id="e9"), "w1", 1, "unknown_execution"),
        (end(execution_id="e9"), "w1", 1, "unknown_execution"),
        (step("collect", attempt=2), "w1", 1, "attempt_over"),
        (end(attempt=7), "w1", 1, "attempt_over"),
        (step("collect", fence=0), "w1", 1, "other_fence"),
        (end(fence=2), "w1", 1, "other_fence"),
        (cases(1, fence=2), "w1", 1, "other_fence"),
        (step("provision"), "w1", 1, "step_backwards"),
        (step("run"), "w1", 1, "repeat"),
        (step("dance"), "w1", 1, "unknown_step"),
        (cases(0), "w1", 1, "repeat"),
        (cases(2), "w1", 1, "cases_missing"),
        (torn_down(), "w1", 1, "no_teardown_owed"),
    ],
)
def test_a_bad_report_changes_nothing_and_says_why(
    report: Report, worker: str, epoch: int, reason: str
) -> None:
    history = running()
    seq, ignored = history.ledger.seq, len(history.ignored)
    assert history.report(report, worker=worker, epoch=epoch) == []
    assert history.ignored[ignored:] == [reason]
    assert history.ledger.seq == seq
    history.check()
    # The attempt goes on as if nothing had been said.
    history.report(step("collect"))
    history.report(ended(history, "e1"))
    assert history.results[-1].verdict == "passed"


def test_words_about_what_is_over_change_nothing() -> None:
    history = running()
    assert history.report(end()) != []
    count = len(history.results)
    for report in (end(), step("teardown"), cases(1), torn_down()):
        assert history.report(report) == []
    assert history.ignored[-4:] == [*["attempt_over"] * 3, "no_teardown_owed"]
    assert len(history.results) == count
    assert history.report(WorkerDraining(reason="r")) != []
    assert history.report(WorkerDraining(reason="r")) == []
    assert history.ignored[-1] == "repeat"
    history.check()


def test_what_happened_is_not_called_ignored() -> None:
    assert running().ignored == []


def test_a_repeated_command_is_ignored_as_a_repeat() -> None:
    history = running()
    history.ask(CancelExecution(execution_id="e1", reason="r"), command_id="c")
    history.ask(CancelExecution(execution_id="e1", reason="r"), command_id="c")
    assert history.ignored == ["repeat"]


def asked(after: timedelta) -> Input:
    meta = CommandMeta(
        command_id="c-old",
        pool="lab",
        actor="ann",
        roles=(),
        issued_at=START,
        correlation_id="",
        traceparent="",
        request_hash="",
    )
    message = Message(meta, submit("e1"))
    return Input(topic="commands", offset=9, at=START + after, received_s=0.0, message=message)


def test_a_command_is_too_late_once_repeats_of_it_are_forgotten() -> None:
    def judged(age: timedelta) -> TooLate | None:
        return core.too_late(Ledger(0), asked(age), START + age)

    assert judged(IDEMPOTENCY_WINDOW) is None
    assert judged(timedelta(seconds=-5)) is None, "clocks differ"
    late = judged(IDEMPOTENCY_WINDOW + timedelta(seconds=1))
    assert late is not None
    assert "command c-old was asked at 2026-01-05T10:00:00" in str(late)


NAMES = st.sampled_from(["e1", "e2", "nobody"])
NUMBERS = st.integers(-1, 3)
STEPS = st.sampled_from(["provision", "run", "collect", "teardown", "dance", ""])
REPORTS: st.SearchStrategy[Report] = st.one_of(
    st.builds(StepStarted, execution_id=NAMES, attempt=NUMBERS, fence=NUMBERS, step=STEPS),
    st.builds(
        ResultsCollected,
        execution_id=NAMES,
        attempt=NUMBERS,
        fence=NUMBERS,
        first_case=NUMBERS,
        cases=st.sampled_from([(), (CASE,)]),
    ),
    st.builds(end, execution_id=NAMES, attempt=NUMBERS, fence=NUMBERS),
    st.builds(
        BenchTornDown,
        execution_id=NAMES,
        attempt=NUMBERS,
        fence=NUMBERS,
        bench=st.sampled_from(["b1", "b9"]),
        error=st.sampled_from(["", "stuck"]),
    ),
    st.builds(
        lambda name, number: WorkerHeartbeat(
            running=(AttemptRef(execution_id=name, attempt=number),)
        ),
        NAMES,
        NUMBERS,
    ),
    st.builds(WorkerDraining, reason=st.just("r")),
    st.builds(WorkerStopped, reason=st.just("r")),
    st.builds(started, st.integers(1, 3)),
)
SAID = st.lists(st.tuples(REPORTS, st.sampled_from(["w1", "w2"]), st.integers(-1, 3)), max_size=25)


@given(said=SAID)
@settings(max_examples=300, deadline=None)
def test_whatever_is_said_each_report_is_a_fact_an_order_or_has_a_reason(
    said: list[tuple[Report, str, int]],
) -> None:
    history = running()
    history.ask(submit("e2"))
    for report, worker, epoch in said:
        before = len(history.orders), len(history.ignored)
        events = history.report(report, worker=worker, epoch=epoch)
        after = len(history.orders), len(history.ignored)
        is_fine_beat = isinstance(report, WorkerHeartbeat)
        assert events or after != before or is_fine_beat, "nobody learns of it"
        # What is stale is no fact: said again, every one of them changes nothing.
        if not events:
            assert history.report(report, worker=worker, epoch=epoch) == []
    history.check()


@given(said=SAID, change=st.sampled_from(["fence", "attempt", "execution_id"]))
@settings(max_examples=200, deadline=None)
def test_words_with_a_foreign_fence_attempt_or_execution_leave_no_trace(
    said: list[tuple[Report, str, int]], change: str
) -> None:
    foreign: dict[str, Callable[[Report], Report]] = {
        "fence": lambda r: replace(r, fence=99),  # type: ignore[call-arg]
        "attempt": lambda r: replace(r, attempt=99),  # type: ignore[call-arg]
        "execution_id": lambda r: replace(r, execution_id="e99"),  # type: ignore[call-arg]
    }
    history = running()
    seq = history.ledger.seq
    for report, worker, epoch in said:
        if isinstance(report, StepStarted | ResultsCollected | AttemptEnded | BenchTornDown):
            history.report(foreign[change](report), worker=worker, epoch=epoch)
    assert history.ledger.seq == seq
    history.check()
