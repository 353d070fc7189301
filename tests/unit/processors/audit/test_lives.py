"""The rules about lives of workers object to each way in which two processes were one worker."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from events import facts
from events.facts import ExecutionAssigned, WorkerLost, WorkerRegistered
from events.message import EventMessage, Message, ReportMessage
from events.reports import (
    AttemptEnded,
    Report,
    StepStarted,
    WorkerDraining,
    WorkerHeartbeat,
    WorkerStarted,
)
from events.shared import ReportMeta, Totals
from processors.audit.checkers import (
    Violated,
    check_journal,
    check_reports,
    one_life_of_a_worker,
)
from processors.audit.lives import RETURNS_MAX
from tests.unit.processors.audit.given import changed, inserted, kinds
from tests.unit.processors.scheduler.history import START, benches, lab, started, submit
from tests.unit.processors.scheduler.history import History as Played

A, B = "life-a", "life-b"


def honest() -> list[EventMessage]:
    """A life that runs a test, and one that is refused until the first is lost."""
    history = Played()
    history.ask(benches("b1"))
    history.report(started(), life=A)
    history.takes(life=A)
    history.report(replace(started(), host="rack-2"), life=B)
    history.ask(submit("e1"))
    history.after(11)
    history.report(replace(started(), host="rack-2"), life=B)
    history.check()
    return history.events


def test_an_honest_history_passes() -> None:
    events = honest()
    one_life_of_a_worker(events)
    one_life_of_a_worker(lab("b1").events)
    assert kinds(events, facts.WorkerRefused)
    assert len(kinds(events, WorkerRegistered)) == 2


Break = Callable[[Sequence[EventMessage]], Sequence[EventMessage]]


def at(kind: type, which: int, **body: Any) -> Break:
    return lambda events: changed(events, kinds(events, kind)[which], **body)


def again(kind: type, which: int, **body: Any) -> Break:
    def broken(events: Sequence[EventMessage]) -> Sequence[EventMessage]:
        found = events[kinds(events, kind)[which]].body
        return inserted(events, len(events), replace(found, **body))

    return broken


BROKEN: list[tuple[str, Break]] = [
    ("is registered already", again(WorkerRegistered, 0, life="life-c", epoch=9)),
    ("registered a second time", at(WorkerRegistered, 1, life=A)),
    ("is ended though it is not registered", at(WorkerLost, 0, epoch=7)),
    ("given an attempt though it is not registered", at(ExecutionAssigned, 0, epoch=7)),
    ("given to life 'life-b', and 'life-a' is", at(ExecutionAssigned, 0, life=B)),
    ("asked to clean though it is not", at(facts.TeardownRequested, 0, epoch=1)),
    ("is refused though no other", at(facts.WorkerRefused, 0, life=A)),
]


@pytest.mark.parametrize(("words", "broken"), BROKEN)
def test_a_broken_history_is_objected_to(words: str, broken: Break) -> None:
    events = broken(honest())
    with pytest.raises(Violated, match=words):
        one_life_of_a_worker(events)
    with pytest.raises(Violated):
        check_journal(events)


def said(life: str, report: Report, number: int) -> ReportMessage:
    meta = ReportMeta(
        report_id=f"rep-{number}",
        pool="lab",
        worker="w1",
        epoch=1,
        sent_at=START,
        correlation_id="",
        traceparent="",
        life=life,
    )
    return Message(meta, report)


def step(execution_id: str, name: str = "run", attempt: int = 1) -> StepStarted:
    return StepStarted(execution_id=execution_id, attempt=attempt, fence=1, step=name)


ASK = WorkerStarted(adapters=(), benches=(), slots=1, version="1")
BEAT = WorkerHeartbeat(running=())


def speak(*words: tuple[str, Report]) -> list[ReportMessage]:
    return [said(life, report, number) for number, (life, report) in enumerate(words)]


def test_lives_that_follow_each_other_pass_with_what_was_under_way() -> None:
    one = speak((A, step("e1")), (B, step("e2")), (A, step("e1", "collect")), (B, step("e3")))
    check_reports(one)
    check_reports([each for each in one for _ in range(2)])  # Repeats, each with the id it had.


def test_a_refused_process_that_asks_and_asks_passes() -> None:
    words: list[tuple[str, Report]] = []
    for number in range(10):
        words += [(A, step(f"e{number}")), (B, ASK), (A, BEAT), (B, BEAT)]
    check_reports(speak(*words))


def test_two_processes_that_work_in_turns_are_found() -> None:
    words: list[tuple[str, Report]] = []
    for number in range(RETURNS_MAX + 2):
        words += [(A, step(f"a{number}")), (B, step(f"b{number}"))]
    with pytest.raises(Violated, match="speak in turns"):
        check_reports(speak(*words))


@pytest.mark.parametrize("life", ["", A])
def test_a_step_that_two_processes_begin_is_found_whatever_they_call_themselves(life: str) -> None:
    words = speak((life, step("e1")), (life, WorkerDraining(reason="")), (life, step("e1")))
    with pytest.raises(Violated, match="step run of attempt 1 of e1 is said to begin twice"):
        check_reports(words)
    check_reports(speak((life, step("e1")), (life, step("e1", attempt=2))))
    check_reports([*words[:1], *words[:1]])


def test_the_rule_reads_all_kinds_of_words() -> None:
    ended = AttemptEnded(
        execution_id="e1",
        attempt=1,
        fence=1,
        verdict="passed",
        code="passed",
        reason="",
        totals=Totals(passed=0, failed=0, errors=0, skipped=0),
        artifacts=(),
        is_retriable=False,
        teardown_error="",
    )
    words = [word for _ in range(RETURNS_MAX + 2) for word in ((A, ended), (B, ended))]
    with pytest.raises(Violated, match="speak in turns"):
        check_reports(speak(*words))
