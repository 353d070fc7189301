"""Whose fault an attempt was decides what follows: another attempt, a dead letter, nothing."""

from events.facts import AttemptFinished, ExecutionAssigned, ExecutionFinished, ExecutionRequeued
from events.tasks import TearDownBench
from tests.unit.processors.scheduler.history import (
    History,
    benches,
    ended,
    lab,
    names,
    started,
    submit,
)


def lab_of_two() -> History:
    history = History()
    history.ask(benches("b1", "b2"))
    for worker in ("w1", "w2"):
        history.report(started(), worker=worker)
    return history


def assigned(history: History) -> list[tuple[str, str]]:
    bodies = [message.body for message in history.events]
    return [(each.bench, each.worker) for each in bodies if isinstance(each, ExecutionAssigned)]


def test_an_asker_s_fault_ends_as_failed_and_costs_nobody_anything() -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=2, retries_on_failure=2))
    said = ended(history, "e1", "failed", code="glob_refused", fault="asker")
    events = history.report(said)
    assert "ExecutionRequeued" not in names(events)
    (finished,) = [each for each in events if isinstance(each, ExecutionFinished)]
    assert (finished.verdict, finished.code, finished.fault) == ("failed", "glob_refused", "asker")
    assert history.results[-1].fault == "asker"
    assert history.letters == []
    assert history.ledger.pools["lab"].free == {"b1"}
    history.check()


def test_whose_fault_it_is_goes_from_the_report_to_the_result() -> None:
    for fault in ("bench", "worker", "store", "network"):
        history = lab("b1")
        history.ask(submit("e1", retries=0))
        events = history.report(ended(history, "e1", "error", code="x", fault=fault))
        told = [each for each in events if isinstance(each, AttemptFinished | ExecutionFinished)]
        assert [each.fault for each in told] == [fault, fault]
        assert history.results[-1].fault == fault
        assert len(history.letters) == 1
        history.check()


def test_a_worker_that_says_a_verdict_and_a_fault_that_do_not_fit_is_put_right() -> None:
    for verdict, code, fault, right in (
        ("error", "provision_failed", "test", "bench"),
        ("failed", "exit_code", "bench", "test"),
        ("passed", "passed", "worker", "worker"),
        ("error", "collect_failed", "", "store"),
    ):
        history = lab("b1")
        history.ask(submit("e1", retries=0))
        events = history.report(ended(history, "e1", verdict, code=code, fault=fault))
        finished = next(each for each in events if isinstance(each, AttemptFinished))
        assert finished.fault == ("" if verdict == "passed" else right)
        history.check()


def test_another_attempt_after_a_worker_s_fault_avoids_that_worker() -> None:
    history = lab_of_two()
    history.ask(submit("e1"))
    history.report(ended(history, "e1", "error", code="no_guardian", fault="worker"))
    history.after(2.0)
    assert assigned(history) == [("b1", "w1"), ("b2", "w2")]
    history.check()


def test_it_avoids_the_worker_also_where_only_the_same_bench_is_left() -> None:
    history = lab_of_two()
    history.ask(submit("e1", selector="n=b1"))
    history.report(ended(history, "e1", "error", code="lease_expired", fault="network"))
    history.after(2.0)
    assert assigned(history) == [("b1", "w1"), ("b1", "w2")]
    history.check()


def test_it_goes_to_the_same_worker_if_there_is_no_other() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.report(ended(history, "e1", "error", code="no_guardian", fault="worker"))
    history.after(2.0)
    assert assigned(history) == [("b1", "w1"), ("b1", "w1")]


def test_a_bench_s_fault_avoids_the_bench_and_not_the_worker() -> None:
    history = lab_of_two()
    history.ask(submit("e1"))
    history.report(ended(history, "e1", "error", code="run_failed", fault="bench"))
    history.after(2.0)
    assert assigned(history) == [("b1", "w1"), ("b2", "w1")]


def test_a_worker_without_faults_goes_before_one_with_fewer_attempts() -> None:
    history = lab_of_two()
    history.ask(submit("e1", retries=0))
    history.report(ended(history, "e1", "error", code="no_guardian", fault="worker"))
    history.ask(submit("e2"))
    history.ask(submit("e3"))
    assert [worker for _, worker in assigned(history)] == ["w1", "w2", "w2"]


def test_what_nothing_was_begun_of_uses_up_no_try() -> None:
    history = lab_of_two()
    history.ask(submit("e1", retries=0))
    said = ended(history, "e1", "error", code="state_unusable", fault="worker")
    events = history.report(said)
    assert [each.next_attempt for each in events if isinstance(each, ExecutionRequeued)] == [2]
    history.after(2.0)
    history.report(ended(history, "e1"), worker="w2")
    assert history.results[-1].verdict == "passed"
    assert history.letters == []
    history.check()


def test_a_bench_that_has_another_adapter_now_is_torn_down_by_the_one_that_made_the_handle() -> (
    None
):
    history = lab("b1")
    history.ask(submit("e1"))
    history.ask(benches("b1", adapter="other"))
    history.report(
        started(adapters=("other",)),
        worker="w2",
    )
    history.now_s += 8.0
    history.report(started(adapters=("other",)), worker="w2", epoch=2)
    history.after(8.0)
    assert "TeardownRequested" not in names([message.body for message in history.events])
    history.report(started(), worker="w3")
    (task,) = [body for _, body in history.orders if isinstance(body, TearDownBench)]
    (meta,) = [meta for meta, body in history.orders if isinstance(body, TearDownBench)]
    assert (meta.worker, task.bench.adapter, task.bench.name) == ("w3", "mock", "b1")
    history.check()
