"""Who cleans up behind an attempt that is given up, and what becomes of bench and execution."""

from dataclasses import replace

import pytest

from events import facts, tasks
from events.reports import BenchTornDown, WorkerHeartbeat
from events.shared import AttemptRef
from processors.scheduler.deadlines import ATTEMPT_GRACE_S, CLEANING_S_MAX, WORKER_DEADLINE_S
from tests.unit.processors.scheduler.history import (
    RUN,
    History,
    benches,
    ended,
    lab,
    names,
    started,
    submit,
)

BEAT_S = 5.0


def beat(history: History, *workers: str) -> list[facts.Event]:
    for worker in workers:
        history.report(WorkerHeartbeat(running=()), worker=worker)
    return history.after(BEAT_S)


def cleaned(history: History, bench: str, *, worker: str, epoch: int = 1) -> list[facts.Event]:
    cleaning = history.ledger.pools["lab"].benches[bench].cleaning
    assert cleaning is not None
    report = BenchTornDown(
        execution_id=cleaning.execution_id,
        attempt=cleaning.attempt,
        fence=cleaning.fence,
        bench=bench,
        error="",
    )
    return history.report(report, worker=worker, epoch=epoch)


def test_a_bench_cleaned_late_is_free_though_its_execution_runs_again_elsewhere() -> None:
    history = History()
    history.ask(benches("b1", "b2"))
    history.report(started(benches=("b1",)), worker="w1")
    history.report(started(benches=("b2",)), worker="w2")
    history.ask(submit("e1", run=replace(RUN, timeout_s=3600.0)))
    while history.ledger.pools["lab"].executions["e1"].bench != "b2":
        beat(history, "w2")
    history.report(started(benches=("b1",)), worker="w1", epoch=2)
    assert names(cleaned(history, "b1", worker="w1", epoch=2)) == ["BenchCleaned", "BenchFreed"]
    assert "ExecutionAssigned" in names(history.ask(submit("e2", selector="n=b1")))
    history.check()


def test_the_worker_of_an_overdue_attempt_is_asked_to_clean_up_if_it_lives() -> None:
    history = lab("b1")
    history.report(started(), worker="w2")
    history.ask(submit("e1"))
    own = history.ledger.pools["lab"].executions["e1"].worker
    other = ({"w1", "w2"} - {own}).pop()
    history.now_s += RUN.timeout_s + ATTEMPT_GRACE_S
    running = WorkerHeartbeat(running=(AttemptRef(execution_id="e1", attempt=1),))
    history.report(running, worker=own)
    history.report(WorkerHeartbeat(running=()), worker=other)
    history.orders.clear()
    history.after(0.0)
    asked = [(meta.worker, type(task)) for meta, task in history.orders]
    assert asked == [(own, tasks.TearDownBench), (own, tasks.StopAttempt)]
    history.check()


def test_the_bench_of_a_lost_worker_is_cleaned_by_another_one() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.report(started(), worker="w2")
    while not (events := beat(history, "w2")):
        pass
    (told,) = (event for event in events if isinstance(event, facts.TeardownRequested))
    assert told.worker == "w2"
    history.check()


def test_a_bench_that_nobody_can_clean_waits_for_a_worker_and_is_not_quarantined() -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=0))
    history.after(0.0)
    assert "WorkerLost" in names(history.after(2 * WORKER_DEADLINE_S))
    assert history.after(10 * CLEANING_S_MAX) == []
    events = history.report(started(), epoch=2)
    assert "TeardownRequested" in names(events)
    assert "BenchFreed" in names(cleaned(history, "b1", worker="w1", epoch=2))
    history.check()


def test_a_worker_that_is_asked_to_clean_and_does_not_costs_the_bench() -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=0))
    history.report(started(), worker="w2")
    while not beat(history, "w2"):
        pass
    found: list[facts.Event] = []
    for _ in range(int(CLEANING_S_MAX / BEAT_S)):
        found += beat(history, "w2")
    (quarantined,) = (event for event in found if isinstance(event, facts.BenchQuarantined))
    assert "not cleaned within" in quarantined.reason


@pytest.mark.parametrize(("verdict", "retries"), [("error", 1), ("failed", 0)])
def test_another_attempt_waits_for_a_bench_no_longer_than_the_first(
    verdict: str, retries: int
) -> None:
    history = lab("b1")
    history.ask(submit("e1", wait_timeout_s=60.0, retries=retries, retries_on_failure=1))
    history.report(
        ended(history, "e1", verdict, code="why", reason="it broke", teardown_error="no relay")
    )
    assert history.ledger.pools["lab"].executions["e1"].state == "backoff"
    found: list[facts.Event] = []
    while history.now_s < 55.0:
        assert beat(history, "w1") == []
    while history.now_s < 65.0:
        found += beat(history, "w1")
    (end,) = found
    assert isinstance(end, facts.ExecutionFinished)
    assert (end.verdict, end.code, end.attempts) == (verdict, "why", 1)
    assert "it broke; for another attempt no bench was free" in end.reason
    assert len(history.letters) == (verdict == "error")
    history.check()
