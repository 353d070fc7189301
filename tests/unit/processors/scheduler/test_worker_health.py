"""Workers that can run nothing, or whose own faults pile up, get nothing until they are mended."""

import pytest

from events.codes import UNSURE
from events.commands import DrainWorker, ResumeWorker
from events.facts import BenchOffline, BenchOnline, CommandRejected, WorkerResumed, WorkerSuspended
from events.reports import WorkerFaulty, WorkerRecovered
from events.tasks import TearDownBench
from processors.scheduler.workers import FAULTS, FAULTS_MAX
from tests.unit.processors.scheduler.history import (
    History,
    benches,
    ended,
    lab,
    names,
    started,
    submit,
)

FULL = WorkerFaulty(code="state_unusable", reason="the disk is full: free some")
FREED = WorkerRecovered(reason="it works again")


def fail(history: History, name: str, *, code: str = "no_guardian", fault: str = "worker") -> None:
    history.ask(submit(name, retries=0))
    history.report(ended(history, name, "error", code=code, fault=fault))


def test_a_worker_that_says_it_is_faulty_gets_nothing_until_it_says_it_is_not() -> None:
    history = lab("b1")
    events = history.report(FULL)
    assert names(events) == ["WorkerSuspended", "BenchOffline"]
    offline = next(each for each in events if isinstance(each, BenchOffline))
    assert offline.reason == "worker w1 is suspended: the disk is full: free some"
    history.ask(submit("e1"))
    assert history.ledger.pools["lab"].executions["e1"].state == "waiting"
    assert names(history.report(FREED)) == [
        "WorkerResumed",
        "BenchOnline",
        "ExecutionAssigned",
        "BenchHeld",
    ]
    history.check()


def test_said_twice_is_said_once() -> None:
    history = lab("b1")
    assert history.report(FREED) == []
    history.report(FULL)
    assert history.report(FULL) == []
    assert history.ignored == ["not_suspended", "repeat"]


def test_another_worker_goes_on_and_the_bench_stays_online() -> None:
    history = lab("b1")
    history.report(started(), worker="w2")
    assert names(history.report(FULL)) == ["WorkerSuspended"]
    history.ask(submit("e1"))
    assert history.ledger.pools["lab"].executions["e1"].worker == "w2"


def test_a_new_life_is_not_suspended() -> None:
    history = lab("b1")
    history.report(FULL)
    assert "BenchOnline" in names(history.report(started(), epoch=2))


def test_faults_in_a_row_suspend_a_worker_until_an_operator_resumes_it() -> None:
    history = lab("b1")
    for number in range(FAULTS_MAX - 1):
        fail(history, f"e{number}")
    assert not any(isinstance(each.body, WorkerSuspended) for each in history.events)
    fail(history, "last")
    (suspended,) = [e.body for e in history.events if isinstance(e.body, WorkerSuspended)]
    assert suspended.code == FAULTS
    assert "5 attempts in a row" in suspended.reason
    assert "teo worker resume w1" in suspended.reason
    assert history.report(FREED) == [], "its own word does not take that back"
    history.ask(submit("e9"))
    assert history.ledger.pools["lab"].executions["e9"].state == "waiting"
    events = history.ask(ResumeWorker(worker="w1", reason=""), roles=("operator",))
    assert names(events)[:2] == ["WorkerResumed", "BenchOnline"]
    assert next(each.reason for each in events if isinstance(each, WorkerResumed)) == (
        "resumed by ann"
    )
    assert history.ledger.pools["lab"].executions["e9"].worker == "w1"
    history.check()


def test_an_attempt_that_was_not_its_fault_lets_it_begin_anew() -> None:
    for verdict, fault in (("passed", ""), ("failed", "test"), ("error", "bench")):
        history = lab("b1")
        for number in range(FAULTS_MAX - 1):
            fail(history, f"e{number}")
        history.ask(submit("good", retries=0))
        history.report(ended(history, "good", verdict, code="x", fault=fault))
        fail(history, "last")
        assert not any(isinstance(each.body, WorkerSuspended) for each in history.events)


def test_the_network_s_faults_and_cancels_say_nothing_of_the_worker() -> None:
    history = lab("b1")
    for number in range(FAULTS_MAX - 1):
        fail(history, f"e{number}")
    fail(history, "cut", code="lease_expired", fault="network")
    assert history.ledger.pools["lab"].workers["w1"].faults == FAULTS_MAX - 1


@pytest.mark.parametrize("code", sorted(UNSURE))
def test_what_a_test_may_have_done_itself_suspends_nobody(code: str) -> None:
    """A test of the worker's own user can kill its guardian, and be run again and again."""
    history = lab("b1")
    for number in range(2 * FAULTS_MAX):
        fail(history, f"e{number}", code=code)
    assert history.ledger.pools["lab"].workers["w1"].faults == 0
    for number in range(FAULTS_MAX - 1):
        fail(history, f"own{number}")
        fail(history, f"again{number}", code=code)
    assert not history.ledger.pools["lab"].workers["w1"].suspended
    fail(history, "last")
    assert history.ledger.pools["lab"].workers["w1"].suspended == FAULTS, "nor does it hide its own"
    history.check()


def test_a_disk_that_works_only_when_it_is_tried_does_not_let_it_burn_attempts_for_ever() -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=0))
    for turn in range(FAULTS_MAX):
        history.after(2.0)
        history.report(FULL)
        said = ended(history, "e1", "error", code="state_unusable", fault="worker")
        history.report(said)
        history.report(FREED)
        is_last = turn == FAULTS_MAX - 1
        assert (history.ledger.pools["lab"].workers["w1"].suspended == FAULTS) == is_last
    history.after(60.0)
    history.check()


def test_only_a_suspended_worker_is_resumed() -> None:
    history = lab("b1")
    (refused,) = history.ask(ResumeWorker(worker="w1", reason=""), roles=("operator",))
    assert isinstance(refused, CommandRejected)
    assert refused.code == "not_suspended"
    (refused,) = history.ask(ResumeWorker(worker="w9", reason=""), roles=("operator",))
    assert isinstance(refused, CommandRejected)
    assert refused.code == "no_such_worker"


def test_a_worker_that_leaves_is_not_suspended_for_what_it_cuts() -> None:
    history = History()
    history.ask(benches(*(f"b{number}" for number in range(6))))
    history.report(started(slots=9))
    for number in range(6):
        history.ask(submit(f"e{number}", retries=0))
    history.ask(DrainWorker(worker="w1", reason=""))
    for number in range(6):
        history.report(
            ended(history, f"e{number}", "error", code="worker_draining", fault="worker")
        )
    assert not any(isinstance(each.body, WorkerSuspended) for each in history.events)


def test_a_suspended_worker_still_tears_down_what_is_owed() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.now_s += 5.0
    history.report(started(), worker="w2")
    history.report(FULL, worker="w2")
    history.after(9.0)
    orders = [(meta.worker, type(body)) for meta, body in history.orders]
    assert ("w2", TearDownBench) in orders, "nobody else is left, and that frees its disk"
    history.check()


def test_a_bench_comes_back_when_its_suspended_worker_is_gone_and_another_is_there() -> None:
    history = lab("b1")
    history.report(FULL)
    history.now_s += 11.0
    events = history.after(0.0)
    assert [each.reason for each in events if isinstance(each, BenchOffline)] == [
        "worker w1 is gone: not heard of for 10 s"
    ]
    events = history.report(started(), worker="w2")
    assert any(isinstance(each, BenchOnline) for each in events)
    history.check()
