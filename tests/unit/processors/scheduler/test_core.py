"""What the pure core decides: given, when, then."""

import math
from dataclasses import replace

import pytest

from events import facts, tasks
from events.commands import (
    CancelExecution,
    Command,
    ExtendReservation,
    QuarantineBench,
    ReleaseReservation,
    RestoreBench,
)
from events.reports import (
    BenchTornDown,
    ResultsCollected,
    WorkerHeartbeat,
)
from processors.scheduler import state
from processors.scheduler.evolve import _APPLY, NO_CHANGE
from tests.unit.processors.scheduler.history import (
    CASE,
    RUN,
    History,
    ended,
    lab,
    names,
    reserve,
    started,
    submit,
)


def test_every_event_is_known_to_evolve() -> None:
    assert set(_APPLY) | set(NO_CHANGE) == set(facts.Event.__args__)


def test_given_a_free_bench_when_reserved_then_granted_in_the_same_decision() -> None:
    history = lab("b1")
    assert names(history.ask(reserve("r1"))) == [
        "ReservationRequested",
        "ReservationGranted",
        "BenchHeld",
    ]
    history.check()


def test_given_a_holder_when_released_then_the_next_gets_the_bench_with_a_higher_fence() -> None:
    history = lab("b1")
    history.ask(reserve("r1"))
    history.ask(reserve("r2"))
    events = history.ask(ReleaseReservation(reservation_id="r1"))
    assert names(events) == ["ReservationReleased", "BenchFreed", "ReservationGranted", "BenchHeld"]
    assert [e.fence for e in events if isinstance(e, facts.BenchHeld)] == [2]
    history.check()


def test_ever_new_selectors_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MATCHES_MAX", 3)
    history = lab("b1", "b2")
    for number in range(20):
        history.ask(reserve(f"r{number}", f"n!=x{number}"))
        history.ask(reserve(f"none{number}", f"n=x{number}"))
    pool = history.ledger.pools["lab"]
    assert len(pool.matches) <= 3
    assert pool.matching("n=b1") == ("b1",)
    assert len(pool.reservations) == 20
    history.check()


def test_given_a_command_when_it_comes_again_then_nothing() -> None:
    history = lab("b1")
    history.ask(reserve("r1"), command_id="c")
    assert history.ask(reserve("r1"), command_id="c") == []
    history.check()


def test_given_a_queue_when_a_bench_is_free_then_by_priority_then_age() -> None:
    history = lab("b1")
    history.ask(reserve("holder"))
    for name, priority in (("old", 0), ("young", 0), ("urgent", 5)):
        history.ask(reserve(name, priority=priority))
    granted = []
    for name in ("holder", "urgent", "old"):
        events = history.ask(ReleaseReservation(reservation_id=name))
        granted += [e.reservation_id for e in events if isinstance(e, facts.ReservationGranted)]
    assert granted == ["urgent", "old", "young"]


def test_given_one_free_bench_when_a_gang_waits_then_it_holds_nothing() -> None:
    history = lab("b1", "b2")
    history.ask(reserve("r1", "n=b1"))
    assert names(history.ask(reserve("gang", "", ""))) == ["ReservationRequested"]
    assert history.ledger.pools["lab"].free == {"b2"}
    events = history.ask(ReleaseReservation(reservation_id="r1"))
    assert names(events).count("BenchHeld") == 2
    history.check()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (reserve("r", "board=none"), "no_matching_bench"),
        (reserve("r", "", "", ""), "no_matching_bench"),
        (reserve("r", "a b"), "invalid_selector"),
        (reserve("r", duration_s=0.0), "invalid_duration"),
        (reserve("mine"), "already_exists"),
        (submit("e", selector="board=none"), "no_matching_bench"),
        (submit("e", reservation_id="nope"), "no_such_reservation"),
        (submit("e", reservation_id="over"), "reservation_ended"),
        (submit("e", retries=99), "invalid_retries"),
        (submit("e", run=replace(RUN, verdict_by="tests")), "invalid_run"),
        (submit("e", run=replace(RUN, verdict_by="report")), "invalid_run"),
        (ReleaseReservation(reservation_id="nope"), "no_such_reservation"),
        (ReleaseReservation(reservation_id="over"), "reservation_ended"),
        (ReleaseReservation(reservation_id="mine"), "not_owner"),
        (ExtendReservation(reservation_id="mine", duration_s=9.0), "not_owner"),
        (CancelExecution(execution_id="nope", reason=""), "no_such_execution"),
        (QuarantineBench(bench="nope", reason=""), "no_such_bench"),
        (RestoreBench(bench="b1"), "not_quarantined"),
    ],
)
def test_refusals_name_their_code_and_change_nothing(command: Command, code: str) -> None:
    history = lab("b1", "b2")
    history.ask(reserve("over", "n=b2"), actor="bob")
    history.ask(ReleaseReservation(reservation_id="over"), actor="bob")
    history.ask(reserve("mine", "n=b1"))
    [rejected] = history.ask(command, actor="bob")
    assert isinstance(rejected, facts.CommandRejected)
    assert rejected.code == code
    assert rejected.reason
    history.check()


@pytest.mark.parametrize("duration_s", [math.nan, math.inf, -math.inf, 1e300, -1e300, 1e9, 0.0])
def test_an_extension_that_is_no_duration_is_refused(duration_s: float) -> None:
    history = lab("b1")
    history.ask(reserve("r1"))
    command = ExtendReservation(reservation_id="r1", duration_s=duration_s)
    [rejected] = history.ask(command)
    assert isinstance(rejected, facts.CommandRejected)
    assert rejected.code == "invalid_duration"
    history.check()


def test_given_no_pool_when_reserved_then_refused() -> None:
    [rejected] = History().ask(reserve("r"))
    assert isinstance(rejected, facts.CommandRejected)
    assert rejected.code == "no_such_pool"


def test_given_a_bench_when_submitted_then_the_worker_is_told_at_once() -> None:
    history = lab("b1")
    assert names(history.ask(submit("e1"))) == [
        "ExecutionSubmitted",
        "ExecutionAssigned",
        "BenchHeld",
    ]
    [(meta, task)] = history.orders
    assert (meta.worker, meta.epoch) == ("w1", 1)
    assert isinstance(task, tasks.RunAttempt)
    assert names(history.report(ended(history, "e1"))) == [
        "AttemptFinished",
        "ExecutionFinished",
        "BenchFreed",
    ]
    history.check()


def test_given_an_infrastructure_error_then_retried_elsewhere_after_a_backoff() -> None:
    history = lab("b1", "b2")
    history.ask(submit("e1"))
    events = history.report(ended(history, "e1", "error"))
    assert names(events) == ["AttemptFinished", "ExecutionRequeued", "BenchFreed"]
    assert names(history.after(0.5)) == []
    [assigned, _] = history.after(0.6)
    assert isinstance(assigned, facts.ExecutionAssigned)
    assert (assigned.bench, assigned.attempt) == ("b2", 2)
    history.check()


def test_given_a_failed_test_then_it_is_not_retried() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    events = history.report(ended(history, "e1", "failed", code="exit_code"))
    assert names(events) == ["AttemptFinished", "ExecutionFinished", "BenchFreed"]


def test_given_a_silent_worker_then_lost_cleaned_by_another_and_retried() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.after(6)
    history.report(started(), worker="w2")
    events = history.after(5)
    assert names(events) == [
        "WorkerLost",
        "BenchCleaning",
        "TeardownRequested",
        "AttemptFinished",
        "ExecutionRequeued",
    ]
    assert names(history.after(2)) == [], "the bench is not clean yet"
    execution = history.ledger.pools["lab"].executions["e1"]
    done = BenchTornDown(execution_id="e1", attempt=1, fence=execution.fence, bench="b1", error="")
    assert names(history.report(done, worker="w2")) == [
        "BenchCleaned",
        "BenchFreed",
        "ExecutionAssigned",
        "BenchHeld",
    ]
    history.check()


def test_given_a_lost_life_when_it_speaks_then_told_and_not_believed() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    stale = ended(history, "e1")
    history.after(11)
    assert history.report(stale) == []
    history.report(WorkerHeartbeat(running=()))
    meta, task = history.orders[-1]
    assert task == tasks.WorkerSuperseded(newest_epoch=1)
    assert meta.epoch == 1
    history.check()


def test_given_a_new_life_over_an_old_one_then_its_attempts_are_errors_of_the_lab() -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=0))
    events = history.report(started(), epoch=2)
    assert names(events) == [
        "WorkerLost",
        "BenchCleaning",
        "AttemptFinished",
        "ExecutionFinished",
        "BenchOffline",
        "WorkerRegistered",
        "BenchOnline",
        "TeardownRequested",
    ]
    assert history.results[-1].verdict == "error"
    history.check()


def test_given_a_running_execution_when_cancelled_then_stopped_torn_down_and_freed() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    assert names(history.ask(CancelExecution(execution_id="e1", reason="no"))) == [
        "ExecutionCancelRequested"
    ]
    assert isinstance(history.orders[-1][1], tasks.StopAttempt)
    history.report(ended(history, "e1", "cancelled"))
    assert (history.results[-1].verdict, history.results[-1].code) == (
        "cancelled",
        "cancelled_by_user",
    )
    history.check()


def test_given_a_lease_that_ends_under_a_test_then_the_test_stops_before_the_bench_is_free() -> (
    None
):
    history = lab("b1")
    history.ask(reserve("r1"))
    history.ask(submit("e1", reservation_id="r1"))
    for _ in range(12):
        history.beat()
        history.after(4.9)
    history.beat()
    assert names(history.after(1.5)) == ["ReservationExpired", "ExecutionCancelRequested"]
    assert names(history.report(ended(history, "e1", "cancelled"))) == [
        "AttemptFinished",
        "ExecutionFinished",
        "BenchFreed",
    ]
    assert history.results[-1].code == "lease_lost"
    history.check()


def test_given_a_wait_that_times_out_then_cancelled_with_the_code() -> None:
    history = lab("b1")
    history.ask(reserve("r1", duration_s=1000.0))
    history.ask(submit("e1", wait_timeout_s=5.0))
    history.ask(reserve("r2", wait_timeout_s=5.0))
    assert names(history.after(6)) == ["ReservationCancelled", "ExecutionFinished"]
    assert history.results[-1].code == "wait_timed_out"
    history.check()


def test_given_a_part_of_the_cases_when_it_comes_twice_then_it_counts_once() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    fence = history.ledger.pools["lab"].executions["e1"].fence
    part = ResultsCollected(execution_id="e1", attempt=1, fence=fence, first_case=0, cases=(CASE,))
    assert names(history.report(part)) == ["AttemptCasesRecorded"]
    assert history.report(part) == []
    history.check()


def test_given_a_teardown_that_failed_then_the_bench_is_quarantined_and_says_why() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.report(ended(history, "e1", teardown_error="relay stuck"))
    bench = history.ledger.pools["lab"].benches["b1"]
    assert "relay stuck" in bench.quarantine
    assert names(history.ask(submit("e2"))) == ["ExecutionSubmitted"]
    events = history.ask(RestoreBench(bench="b1"), roles=("operator",))
    assert names(events) == ["BenchRestored", "ExecutionAssigned", "BenchHeld"]
    history.check()
