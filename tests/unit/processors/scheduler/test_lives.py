"""Of all processes that ask under one worker id, one life is registered; what it does not name."""

from dataclasses import replace

import pytest

from events import tasks
from events.commands import CancelExecution, DrainWorker
from events.facts import AttemptFinished, WorkerLost, WorkerRefused, WorkerRegistered
from events.reports import AttemptUnknown, StepStarted, WorkerHeartbeat, WorkerStopped
from events.shared import AttemptRef
from processors.scheduler.deadlines import UNNAMED_BEATS_MIN, UNNAMED_S, WORKER_DEADLINE_S
from processors.scheduler.evolve_workers import REFUSED_LIVES_MAX
from tests.unit.processors.scheduler.history import (
    History,
    benches,
    ended,
    lab,
    names,
    started,
    submit,
)

A, B, C = "life-a", "life-b", "life-c"


def ask(
    history: History,
    life: str,
    *,
    epoch: int = 1,
    after_life: str = "",
    host: str = "",
    worker: str = "w1",
) -> list[str]:
    """Ask as a life of the worker does; return the names of the facts that follow."""
    asked = replace(started(), after_life=after_life, host=host or f"host of {life}")
    return names(history.report(asked, worker=worker, epoch=epoch, life=life))


def served(*, life: str = A) -> History:
    """Two benches, and a worker whose life is registered and took them."""
    history = History()
    history.ask(benches("b1", "b2"))
    ask(history, life)
    history.takes(life=life)
    return history


def answers(history: History, life: str) -> list[tasks.Task]:
    return [task for meta, task in history.orders if meta.life == life]


def test_a_life_is_accepted_and_told_before_it_is_told_anything_else() -> None:
    history = History()
    history.ask(benches("b1"))
    history.ask(submit("e1"))
    assert ask(history, A, epoch=3) == ["WorkerRegistered"]
    assert names(history.takes(life=A)) == [
        "BenchChecksRecorded",
        "BenchOnline",
        "ExecutionAssigned",
        "BenchHeld",
    ]
    registered = next(m.body for m in history.events if isinstance(m.body, WorkerRegistered))
    assert (registered.life, registered.epoch, registered.host) == (A, 3, f"host of {A}")
    assert [type(task) for _, task in history.orders] == [
        tasks.LifeAccepted,
        tasks.CheckBenches,
        tasks.RunAttempt,
    ]
    assert {(meta.life, meta.epoch) for meta, _ in history.orders} == {(A, 3)}
    history.check()


def test_an_epoch_that_no_folder_can_have_leaves_room_for_the_lives_to_come() -> None:
    """The next one must still fit into a fact, or its pool is never decided again."""
    history = served()
    assert ask(history, B, epoch=2**63 - 1, after_life=A) == [
        "WorkerLost",
        "BenchOffline",
        "BenchOffline",
        "WorkerRegistered",
    ]
    assert history.ledger.pools["lab"].epochs["w1"] == 2
    history.check()


def test_a_repeat_of_an_accepted_life_is_answered_again_and_is_no_fact() -> None:
    history = served()
    seq = history.ledger.seq
    assert ask(history, A) == []
    accepted = [task for task in answers(history, A) if isinstance(task, tasks.LifeAccepted)]
    assert len(accepted) == 2
    assert len(answers(history, A)) == 3, "and told once to look at its benches"
    assert (history.ledger.seq, history.ignored) == (seq, ["repeat"])
    history.check()


def test_the_epoch_comes_from_the_log_not_from_the_folder() -> None:
    history = served()
    history.report(WorkerStopped(reason="bye"), life=A)
    ask(history, B, epoch=1)
    assert history.ledger.pools["lab"].workers["w1"].epoch == 2
    history.report(WorkerStopped(reason="bye"), life=B, epoch=2)
    ask(history, C, epoch=9)
    assert history.ledger.pools["lab"].workers["w1"].epoch == 9
    history.check()


def test_another_process_under_the_id_is_refused_aloud_and_changes_nothing() -> None:
    history = served()
    history.ask(submit("e1"))
    assert ask(history, B) == ["WorkerRefused"]
    refused = history.events[-1].body
    assert isinstance(refused, WorkerRefused)
    assert (refused.life, refused.host) == (B, f"host of {B}")
    assert f"host of {A}" in refused.reason
    (told,) = answers(history, B)
    assert isinstance(told, tasks.LifeRefused)
    assert told.host == f"host of {A}"
    assert "choose another --id, or stop that one" in told.reason
    assert names(history.report(ended(history, "e1"), life=A))[0] == "AttemptFinished"
    history.check()


def test_a_refusal_is_one_fact_however_often_it_asks() -> None:
    history = served()
    for _ in range(50):
        for life in (B, C):
            ask(history, life)
    assert sum(isinstance(m.body, WorkerRefused) for m in history.events) == 2
    assert len(answers(history, B)) == 50
    for number in range(2 * REFUSED_LIVES_MAX):
        ask(history, f"more-{number}")
    assert len(history.ledger.pools["lab"].workers["w1"].refused) == REFUSED_LIVES_MAX
    history.check()


def test_what_a_refused_life_says_is_not_believed() -> None:
    history = served()
    history.ask(submit("e1"))
    ask(history, B)
    # Of the same worker, with the same epoch: the life alone tells them apart.
    step = StepStarted(execution_id="e1", attempt=1, fence=1, step="provision", handle="h")
    for report in (step, ended(history, "e1"), WorkerStopped(reason="bye")):
        assert history.report(report, life=B, epoch=1) == []
    assert history.ignored[-3:] == ["other_life"] * 3
    history.report(WorkerHeartbeat(running=()), life=B, epoch=1)
    (told,) = [t for t in answers(history, B) if isinstance(t, tasks.WorkerSuperseded)]
    assert (told.newest_life, told.newest_host) == (A, f"host of {A}")
    history.check()


def test_refused_until_the_other_is_lost_then_accepted_and_its_attempt_is_tried_again() -> None:
    history = served()
    history.ask(submit("e1"))
    history.after(1)
    assert ask(history, B) == ["WorkerRefused"]
    history.after(WORKER_DEADLINE_S - 2)
    assert ask(history, B) == [], "an ask of another life is no word of the one that is registered"
    assert "WorkerLost" in names(history.after(1.5))
    assert ask(history, B)[:1] == ["WorkerRegistered"]
    found = names(history.takes(life=B))
    assert found[:2] == ["BenchChecksRecorded", "BenchOnline"]
    assert history.ledger.pools["lab"].workers["w1"].epoch == 2
    history.check()


def test_the_successor_in_the_same_folder_takes_over_at_once() -> None:
    history = served()
    history.ask(submit("e1"))
    assert ask(history, B, epoch=2, after_life=A)[:2] == ["WorkerLost", "BenchCleaning"]
    assert history.ledger.pools["lab"].workers["w1"].life == B
    # The old one is told before the new one is: should it live, it stops.
    told = [(m.life, type(t)) for m, t in history.orders if m.life == A or m.life == B]
    assert told.index((A, tasks.WorkerSuperseded)) < told.index((B, tasks.LifeAccepted))
    assert (B, tasks.TearDownBench) in told
    history.check()


def test_the_successor_of_another_life_than_the_registered_one_is_refused() -> None:
    history = served()
    assert ask(history, C, epoch=9, after_life=B) == ["WorkerRefused"]
    history.check()


def test_a_life_that_is_over_does_not_come_back() -> None:
    history = served()
    history.after(WORKER_DEADLINE_S + 1)
    assert ask(history, A) == []
    told = answers(history, A)[-1]
    assert told == tasks.WorkerSuperseded(newest_epoch=1), "none is registered: it begins anew"
    assert ask(history, B, epoch=2, after_life=A)[0] == "WorkerRegistered"
    history.check()


def test_workers_from_before_lives_had_ids_are_told_apart_by_their_epochs() -> None:
    history = lab("b1")
    assert ask(history, A, epoch=1) == ["WorkerRefused"], "an equal epoch of another is no repeat"
    found = ask(history, B, epoch=2)
    assert "WorkerRegistered" in found, "started anew on the same folder"
    assert names(history.takes(life=B))[-1] == "BenchOnline"
    assert history.report(started(), epoch=1) == []
    assert history.ledger.pools["lab"].workers["w1"].life == B
    assert names(history.report(started(), epoch=3))[0] == "WorkerLost"
    assert history.ledger.pools["lab"].workers["w1"].life == ""
    history.check()


def beat(history: History, *running: AttemptRef, times: int = 1, every_s: float = 2.0) -> list[str]:
    """Say heartbeats that name `running`; return the facts that follow."""
    found: list[str] = []
    for _ in range(times):
        found += names(history.after(every_s))
        found += names(history.report(WorkerHeartbeat(running=running), life=A))
    return found


REF = AttemptRef(execution_id="e1", attempt=1)


def test_what_a_life_does_not_name_is_over_and_its_bench_is_cleaned_by_it() -> None:
    history = served()
    history.ask(submit("e1", selector="n=b1"))
    assert beat(history, times=10) == []
    found = beat(history, times=2)
    assert found[:3] == ["BenchCleaning", "TeardownRequested", "AttemptFinished"]
    (finished,) = [m.body for m in history.events if isinstance(m.body, AttemptFinished)]
    assert (finished.code, finished.is_retriable) == ("attempt_unknown", True)
    assert isinstance(history.orders[-1][1], tasks.TearDownBench)
    history.check()


def test_what_it_names_even_once_in_a_while_is_not_over() -> None:
    history = served()
    history.ask(submit("e1"))
    for _ in range(20):
        assert beat(history, times=4) == []
        assert beat(history, REF) == []
    history.check()


def test_a_worker_that_says_nothing_has_not_said_that_it_does_not_run_it() -> None:
    history = served()
    history.ask(submit("e1"))
    beat(history)
    history.after(WORKER_DEADLINE_S - 1)
    assert beat(history, every_s=0.0) == []
    assert UNNAMED_BEATS_MIN > 2
    history.after(WORKER_DEADLINE_S - 1)
    assert beat(history, REF, every_s=0.0) == []
    assert beat(history, times=9) == [], "it counts anew from the first that did not name it"
    history.check()


def test_a_burst_of_old_heartbeats_says_nothing_of_an_attempt_that_is_new() -> None:
    history = served()
    history.ask(submit("e1"))
    assert beat(history, times=100, every_s=0.01) == []
    assert beat(history, REF, every_s=UNNAMED_S / 4) == []
    history.check()


def test_a_life_that_still_asks_runs_nothing() -> None:
    history = served()
    history.ask(submit("e1", selector="n=b1"))
    found: list[str] = []
    for _ in range(12):
        found += names(history.after(2.0))
        found += ask(history, A)
    assert "AttemptFinished" in found
    history.check()


def unknown(*, attempt: int = 1, fence: int = 1) -> AttemptUnknown:
    return AttemptUnknown(execution_id="e1", attempt=attempt, fence=fence)


def test_a_stop_of_what_is_not_there_ends_the_execution() -> None:
    history = served()
    history.ask(submit("e1"))
    history.ask(CancelExecution(execution_id="e1", reason="enough"))
    found = names(history.report(unknown(), life=A))
    assert found == ["BenchCleaning", "TeardownRequested", "AttemptFinished", "ExecutionFinished"]
    result = history.results[-1]
    assert (result.verdict, result.code) == ("cancelled", "cancelled_by_user")
    history.check()


@pytest.mark.parametrize(
    ("report", "life"),
    [(unknown(), B), (unknown(attempt=2), A), (unknown(fence=0), A), (unknown(fence=2), A)],
)
def test_other_words_of_an_unknown_attempt_change_nothing(
    report: AttemptUnknown, life: str
) -> None:
    history = served()
    history.ask(submit("e1"))
    assert history.report(report, life=life) == []
    history.check()


def test_an_attempt_that_ended_by_itself_is_not_harmed_by_a_late_answer() -> None:
    history = served()
    history.ask(submit("e1"))
    history.ask(CancelExecution(execution_id="e1", reason="late"))
    history.report(ended(history, "e1"), life=A)
    assert history.report(unknown(), life=A) == []
    assert history.results[-1].verdict == "passed"
    history.check()


def test_a_worker_that_drains_cleans_its_own_attempt_itself() -> None:
    """Another one could tear down under a test that still runs there."""
    history = served()
    ask(history, C, worker="w2")
    history.takes(life=C, worker="w2")
    history.ask(submit("e1"))
    worker = history.ledger.pools["lab"].executions["e1"].worker
    life = history.ledger.pools["lab"].workers[worker].life
    history.ask(DrainWorker(worker=worker, reason="new disk"), roles=("operator",))
    history.report(unknown(), worker=worker, life=life)
    meta, task = history.orders[-1]
    assert isinstance(task, tasks.TearDownBench)
    assert (meta.worker, meta.life) == (worker, life)
    # Gone before it did, it leaves that to the other one.
    history.report(WorkerStopped(reason="bye"), worker=worker, life=life)
    assert history.orders[-1][0].life == ({A, C} - {life}).pop()
    lost = [m.body for m in history.events if isinstance(m.body, WorkerLost)]
    assert lost == []
    history.check()
