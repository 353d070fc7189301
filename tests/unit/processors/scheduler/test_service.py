"""A bench is online once a worker that checks benches took it as it is registered now."""

from events.facts import BenchChecksRecorded, BenchOffline
from events.reports import BenchesChecked
from events.shared import BenchChecked, BenchSpec
from events.tasks import CheckBenches
from processors.scheduler.service import CHECKS_PER_TASK_MAX
from processors.scheduler.sizes import BENCH_BYTES_MAX
from tests.unit.processors.scheduler.history import History, benches, names, started, submit


def served(*found: str) -> History:
    """Return a lab whose worker has a life, and looked at nothing yet."""
    history = History()
    history.ask(benches(*found))
    history.report(started(), life="l1")
    return history


def orders(history: History) -> list[tuple[str, CheckBenches]]:
    return [(m.worker, body) for m, body in history.orders if isinstance(body, CheckBenches)]


def checked(history: History, *found: str, code: str = "", worker: str = "w1") -> list[object]:
    """Have a worker answer the last order for some benches."""
    versions = {
        check.bench.name: check.version
        for name, task in orders(history)
        if name == worker
        for check in task.benches
    }
    said = tuple(
        BenchChecked(
            bench=name, version=versions[name], code=code, reason="no such key" if code else ""
        )
        for name in found
    )
    return list(history.report(BenchesChecked(checks=said), worker=worker, life="l1"))


def state(history: History, name: str) -> tuple[bool, str]:
    bench = history.ledger.pools["lab"].benches[name]
    return bench.is_online, bench.offline


def test_a_worker_that_begins_looks_at_its_benches_before_it_serves_them() -> None:
    history = served("b1", "b2")
    ((worker, task),) = orders(history)
    assert (worker, [each.bench.name for each in task.benches]) == ("w1", ["b1", "b2"])
    history.ask(submit("e1"))
    assert state(history, "b1") == (False, "")
    events = checked(history, "b1")
    assert names(events) == [  # type: ignore[arg-type]
        "BenchChecksRecorded",
        "BenchOnline",
        "ExecutionAssigned",
        "BenchHeld",
    ]
    history.check()


def test_a_refused_bench_is_out_with_the_adapters_words() -> None:
    history = served("b1", "b2")
    events = checked(history, "b1", code="invalid_config")
    assert names(events) == ["BenchChecksRecorded", "BenchOffline"]  # type: ignore[arg-type]
    assert state(history, "b1") == (False, "refused by worker w1: no such key (invalid_config)")
    history.ask(submit("e1", selector="n=b1"))
    assert history.ledger.pools["lab"].executions["e1"].state == "waiting"
    history.check()


def test_a_bench_that_is_applied_is_looked_at_by_every_worker_that_may_serve_it() -> None:
    history = served("b1")
    history.report(started(), worker="w2", life="l2")
    history.report(started(adapters=("other",)), worker="w3", life="l3")
    history.report(started(benches=("b9",)), worker="w4", life="l4")
    history.orders.clear()
    history.ask(benches("b2"))
    assert [worker for worker, _ in orders(history)] == ["w1", "w2"]


def test_one_worker_that_takes_it_is_enough() -> None:
    history = served("b1")
    history.report(started(), worker="w2", life="l1")
    checked(history, "b1", code="invalid_config")
    checked(history, "b1", worker="w2")
    history.ask(submit("e1"))
    assert history.ledger.pools["lab"].executions["e1"].worker == "w2"
    history.check()


def test_another_config_is_looked_at_anew_and_a_late_answer_about_the_old_one_is_void() -> None:
    history = served("b1")
    checked(history, "b1")
    ((_, old),) = orders(history)
    history.ask(_with_config("b1", '{"run": {"delay_s": 1}}'))
    assert state(history, "b1") == (False, "worker w1 is to check it")
    late = BenchChecked(bench="b1", version=old.benches[0].version, code="", reason="")
    assert history.report(BenchesChecked(checks=(late,)), life="l1") == []
    assert history.ignored[-1] == "other_version"
    assert "BenchOnline" in names(checked(history, "b1"))  # type: ignore[arg-type]
    history.check()


def test_applied_again_as_it_is_it_stays_online_and_is_not_looked_at_again() -> None:
    history = served("b1", "b2")
    checked(history, "b1", "b2")
    history.orders.clear()
    events = history.ask(benches("b1", "b2"))
    assert set(names(events)) == {"BenchRegistered"}
    assert orders(history) == []


def test_applied_again_as_it_is_a_refused_one_is_looked_at_again() -> None:
    history = served("b1")
    checked(history, "b1", code="directory_missing")
    history.ask(benches("b1"))
    assert len(orders(history)) == 2
    assert "BenchOnline" in names(checked(history, "b1"))  # type: ignore[arg-type]
    history.check()


def test_what_a_worker_finds_later_by_itself_counts() -> None:
    history = served("b1")
    checked(history, "b1", code="directory_missing")
    assert checked(history, "b1", code="directory_missing") == []
    assert history.ignored[-1] == "repeat"
    assert "BenchOnline" in names(checked(history, "b1"))  # type: ignore[arg-type]
    events = checked(history, "b1", code="directory_missing")
    assert any(isinstance(each, BenchOffline) for each in events)


def test_a_worker_of_before_takes_all_and_is_asked_nothing() -> None:
    history = History()
    history.ask(benches("b1"))
    events = history.report(started())
    assert names(events) == ["WorkerRegistered", "BenchOnline"]
    assert orders(history) == []


def test_an_answer_of_another_life_or_about_no_bench_changes_nothing() -> None:
    history = served("b1")
    said = BenchesChecked(checks=(BenchChecked(bench="b9", version=0, code="", reason=""),))
    assert history.report(said, life="l1") == []
    assert history.report(said, epoch=7, life="l1") == []


def test_many_benches_are_ordered_in_tasks_that_a_record_can_carry() -> None:
    history = served()
    history.ask(benches(*(f"b{number:03}" for number in range(400))))
    history.ask(benches(*(f"c{number:03}" for number in range(400))))
    history.orders.clear()
    history.report(started(), worker="w2", life="l2")
    sizes = [len(task.benches) for _, task in orders(history)]
    assert sizes == [CHECKS_PER_TASK_MAX, 800 - CHECKS_PER_TASK_MAX]
    big = [
        _with_config(f"d{number}", '"' + "x" * (BENCH_BYTES_MAX // 2) + '"') for number in (1, 2)
    ]
    history.orders.clear()
    for each in big:
        history.ask(each)
    history.report(started(), worker="w5", life="l5")
    last = [task for worker, task in orders(history) if worker == "w5"]
    assert sum(len(task.benches) for task in last) == 802
    assert len(last) > 2
    history.check()


def test_the_answer_is_recorded_with_what_was_said() -> None:
    history = served("b1")
    (recorded, *_) = checked(history, "b1", code="invalid_config")
    assert isinstance(recorded, BenchChecksRecorded)
    assert recorded.checks[0].reason == "no such key"


def _with_config(name: str, config: str):  # type: ignore[no-untyped-def]
    command = benches(name)
    spec = command.benches[0]
    new = BenchSpec(name=name, labels=spec.labels, adapter=spec.adapter, config=config)
    return type(command)(benches=(new,))
