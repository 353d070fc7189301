"""A worker asks until it is answered, touches nothing before, and obeys no fence that fell."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from events.reports import (
    AttemptEnded,
    AttemptUnknown,
    BenchTornDown,
    StepStarted,
    WorkerHeartbeat,
    WorkerStarted,
    WorkerStopped,
)
from events.shared import AttemptRef
from events.tasks import LifeAccepted, LifeRefused, TearDownBench
from processors.worker.agent import Superseded
from processors.worker.fences import FenceFell
from processors.worker.notes import Leftover
from processors.worker.registration import IdInUse
from processors.worker.state_dir import StateDir, StateInUse
from tests.unit.processors.worker.lab import TOPICS, Lab, attempt, in_lab, names, play, stop

REFUSED = LifeRefused(code="id_in_use", reason="it runs there", host="rack-2 (pid 7)")
LEFT = Leftover(
    execution_id="old",
    attempt=1,
    fence=3,
    bench="b-9",
    adapter="scripted",
    handle='{"id": "old/1"}',
    epoch=0,
)


def alone(root: Path, scene: Callable[[Lab], Awaitable[None]], **settings: object) -> Lab:
    """Play `scene` with a worker that nobody answers."""
    labs: list[Lab] = []

    async def whole() -> None:
        lab = Lab(root, **settings)
        labs.append(lab)
        lab.log.is_accepting = False
        running = asyncio.create_task(lab.worker.run())
        await scene(lab)
        lab.worker.stop()
        await asyncio.wait_for(running, 60)

    play(whole)
    return labs[0]


def _left_by_an_earlier_process(root: Path, left: Leftover = LEFT) -> None:
    """Note what a process left that had the lock of the folder, and is dead."""
    state = StateDir(root / "state")
    with state.locked():
        state.begin("before")
        state.remember(left)


def asks(lab: Lab) -> list[WorkerStarted]:
    return lab.reports(WorkerStarted)


def test_it_asks_for_as_long_as_nobody_answers_and_touches_nothing(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _left_by_an_earlier_process(tmp_path)
        await asyncio.sleep(600)
        assert 290 < len(asks(lab)) < 310
        assert not lab.reports(WorkerHeartbeat)
        assert lab.adapter.torn_down == []
        assert len({m.meta.life for m in lab.log.read(TOPICS.reports)}) == 1, "in one life"
        await lab.tell(LifeAccepted())
        await lab.registered()
        await lab.until(lambda: lab.adapter.torn_down)
        count = len(asks(lab))
        await asyncio.sleep(20)
        assert len(asks(lab)) == count, "it was answered"
        assert lab.reports(WorkerHeartbeat)

    alone(tmp_path, scene)


def test_it_says_where_it_runs_and_which_life_it_follows(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        first, ask = lab.worker.life, asks(lab)[0]
        assert (ask.after_life, ask.host) == ("", "rack-1 (pid 1)")
        lab.worker.stop()
        await lab.until(lambda: lab.reports(WorkerStopped))
        again = asyncio.create_task(lab.make().run())
        await lab.registered()
        assert asks(lab)[-1].after_life == first
        assert lab.worker.life != first
        lab.worker.stop()
        await again

    in_lab(tmp_path, scene, host="rack-1 (pid 1)")


def test_its_epoch_is_what_the_log_gives(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.until(lambda: asks(lab))
        lab.log.put_task(LifeAccepted(), worker="w-1", epoch=41, life=lab.worker.life, task_id="t")
        await lab.registered()
        assert lab.worker.epoch == 41
        await lab.until(lambda: lab.reports(WorkerHeartbeat))
        last = lab.log.read(TOPICS.reports)[-1].meta
        assert (last.epoch, last.life) == (41, lab.worker.life)

    alone(tmp_path, scene)
    assert StateDir(tmp_path / "state").begin("next").epoch == 42


def test_refused_it_asks_on_and_gives_up_after_a_while_of_refusals(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        lab.log.is_accepting = False
        running = asyncio.create_task(lab.worker.run())
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not running.done():
            answered = len(asks(lab))
            await asyncio.sleep(0.05)
            if len(asks(lab)) > answered:
                await lab.tell(REFUSED)
        with pytest.raises(IdInUse, match=r"on rack-2 \(pid 7\): choose another --id, or stop"):
            await running
        assert 29 < loop.time() - began_s < 40
        assert lab.adapter.torn_down == []

    play(scene)


def test_silence_between_refusals_is_not_being_refused(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for _ in range(5):
            await lab.until(lambda: asks(lab))
            await lab.tell(REFUSED)
            await asyncio.sleep(300)  # The scheduler is away.
        await lab.tell(LifeAccepted())
        await lab.registered()

    alone(tmp_path, scene)


def test_what_cannot_be_dropped_of_earlier_lives_stays_and_ends_nothing(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.registered()
        await lab.tell(attempt())
        assert (await lab.ended()).verdict == "passed"

    StateDir(tmp_path / "state")
    (tmp_path / "state" / "outbox-0.spool").mkdir()
    in_lab(tmp_path, scene)
    assert (tmp_path / "state" / "outbox-0.spool").is_dir()


def test_attempts_that_come_while_it_clears_are_named_and_begin_afterwards(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _left_by_an_earlier_process(tmp_path, replace(LEFT, handle='{"id": "slow/1"}'))
        teardown = lab.adapter.teardown

        async def slow(handle: str) -> None:
            await asyncio.sleep(30)
            await teardown(handle)  # type: ignore[arg-type]

        lab.adapter.teardown = slow  # type: ignore[method-assign, assignment]
        await lab.until(lambda: asks(lab))
        await lab.tell(LifeAccepted())
        await lab.tell(attempt())
        await lab.tell(TearDownBench(execution_id="x", attempt=1, fence=1, bench=attempt().bench))
        await asyncio.sleep(20)
        assert not lab.reports(StepStarted)
        assert not lab.reports(BenchTornDown)
        assert lab.reports(WorkerHeartbeat)[-1].running == (
            AttemptRef(execution_id="exe-1", attempt=1),
        )
        assert (await lab.ended()).verdict == "passed"
        await lab.until(lambda: lab.reports(BenchTornDown))

    alone(tmp_path, scene)


def test_leftovers_that_take_for_ever_keep_attempts_waiting_for_so_long_only(
    tmp_path: Path,
) -> None:
    async def scene(lab: Lab) -> None:
        async def never() -> list[str]:
            await asyncio.sleep(10_000)
            return []

        lab.adapter.leftovers = never  # type: ignore[method-assign, assignment]
        await lab.until(lambda: asks(lab))
        began_s = asyncio.get_running_loop().time()
        await lab.tell(LifeAccepted())
        await lab.tell(attempt())
        assert (await lab.ended()).verdict == "passed"
        assert asyncio.get_running_loop().time() - began_s < lab.settings.leftovers_s + 20

    alone(tmp_path, scene, leftovers_s=10.0)


def test_a_bench_is_not_torn_down_by_a_life_whose_time_is_over(tmp_path: Path) -> None:
    """A process that was stopped reads orders of before, and others drive the bench by now."""

    async def scene(lab: Lab) -> None:
        await lab.registered()
        life = lab.worker._life
        assert life is not None
        life._contact._lapsed = True
        await lab.tell(TearDownBench(execution_id="x", attempt=1, fence=1, bench=attempt().bench))
        await lab.until(lambda: lab.worker._life is not life)
        await lab.registered()
        await asyncio.sleep(30)
        assert lab.adapter.torn_down == []

    in_lab(tmp_path, scene)


def test_a_stop_of_what_it_does_not_run_is_answered(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(stop())
        await lab.until(lambda: lab.reports(AttemptUnknown))
        (unknown,) = lab.reports(AttemptUnknown)
        assert (unknown.execution_id, unknown.attempt, unknown.fence) == ("exe-1", 1, 7)
        # The scheduler gave it up with that: it is not begun any more.
        await lab.tell(attempt())
        await lab.tell(attempt("exe-2", fence=8))
        assert (await lab.ended("exe-2")).verdict == "passed"
        assert not [r for r in lab.reports(StepStarted) if r.execution_id == "exe-1"]

    in_lab(tmp_path, scene)


def test_a_stop_of_what_has_just_ended_is_answered_behind_its_end(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        await lab.ended()
        await lab.tell(stop())
        await lab.until(lambda: lab.reports(AttemptUnknown))
        said = names(lab.reports())
        assert said.index("AttemptEnded") < said.index("AttemptUnknown")
        assert len(lab.reports(AttemptEnded)) == 1

    in_lab(tmp_path, scene)


def test_a_stop_ends_what_only_waits_to_begin(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _left_by_an_earlier_process(tmp_path)
        teardown = lab.adapter.teardown

        async def slow(handle: str) -> None:
            await asyncio.sleep(5)
            await teardown(handle)  # type: ignore[arg-type]

        lab.adapter.teardown = slow  # type: ignore[method-assign, assignment]
        await lab.until(lambda: asks(lab))
        await lab.tell(LifeAccepted())
        await lab.tell(attempt(run_s=500))
        await lab.tell(stop())
        ended = await lab.ended()
        assert (ended.verdict, ended.code) == ("cancelled", "cancelled")
        assert "run" not in lab.adapter.calls

    alone(tmp_path, scene)


def test_a_task_of_another_life_is_not_done(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for life in ("", "another"):
            await lab.tell(attempt(), life=life)
            await lab.tell(stop(), life=life)
        await asyncio.sleep(10)
        assert not lab.reports(StepStarted, AttemptEnded, AttemptUnknown)

    in_lab(tmp_path, scene)


def test_another_life_that_is_accepted_later_ends_it_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        running = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        lab.log.put_task(LifeAccepted(), worker="w-1", epoch=2, life="another", task_id="t")
        with pytest.raises(Superseded, match="another process runs under this id"):
            await asyncio.wait_for(running, 60)
        assert not lab.adapter.alive

    play(scene)


def test_one_folder_has_one_process(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        asked = len(asks(lab))
        with pytest.raises(StateInUse, match=r"in use by process \d+: stop that one, or give"):
            await Lab(tmp_path).worker.run()
        await asyncio.sleep(5)
        assert len(asks(lab)) == asked
        assert lab.worker.is_registered

    in_lab(tmp_path, scene)
    in_lab(tmp_path, scene)  # The lock is gone with the process that had it.


def test_a_copy_of_a_folder_does_not_follow_the_life_of_the_folder(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        copied, own = StateDir(tmp_path / "copy"), StateDir(tmp_path / "state")
        with copied.locked():
            assert copied.begin("b").after_life == ""
            assert copied.begin("c").after_life == "b", "of its own it knows"
        assert own.begin("x").after_life == lab.worker.life

    in_lab(tmp_path, scene)


def test_a_fence_that_fell_stops_the_worker_aloud_and_for_good(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        running = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt("exe-1"))
        await lab.ended()
        await lab.tell(attempt("exe-2", bench="b-2", fence=1, run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        await lab.tell(attempt("exe-3", fence=7))
        with pytest.raises(FenceFell, match=r"b-1 .* fence 7, .* saw fence 7 .*--forget-fences"):
            await asyncio.wait_for(running, 60)
        ended = {each.execution_id: each for each in lab.reports(AttemptEnded)}
        assert (ended["exe-3"].verdict, ended["exe-3"].code) == ("error", "fence_fell")
        assert (ended["exe-2"].verdict, ended["exe-2"].code) == ("error", "worker_draining")
        assert "lost facts" in lab.reports(WorkerStopped)[-1].reason
        assert not [r for r in lab.reports(StepStarted) if r.execution_id == "exe-3"]
        asked = len(asks(lab))
        with pytest.raises(FenceFell, match="--forget-fences"):
            await lab.make().run()
        assert len(asks(lab)) == asked, "it does not even ask"
        lab.settings = replace(lab.settings, forget_fences=True)
        again = asyncio.create_task(lab.make().run())
        await lab.registered()
        await lab.tell(attempt("exe-4", fence=1))
        assert (await lab.ended("exe-4")).verdict == "passed"
        lab.worker.stop()
        await again

    play(scene)


def test_fences_outlive_the_process_and_are_of_one_bench(tmp_path: Path) -> None:
    bench, other = ("teo", "lab", "b-9"), ("teo", "other", "b-9")
    state = StateDir(tmp_path)
    note = replace(LEFT, pool="lab", prefix="teo", fence=5)
    state.remember(note)
    assert "fence 5" in StateDir(tmp_path).fences.why_not(bench, 5), "what is not torn down yet"
    state.forget(note)
    state.forget(note)
    for found in (state, StateDir(tmp_path)):
        assert found.fences.why_not(bench, 5)
        assert found.fences.why_not(bench, 6) == ""
        assert found.fences.why_not(other, 1) == ""
    older = replace(note, fence=4, execution_id="older")
    state.remember(older)
    state.forget(older)
    assert StateDir(tmp_path).fences.why_not(bench, 5), "an older note does not take its place"
    state.remember(note)
    StateDir(tmp_path).forget_fences()
    assert StateDir(tmp_path).fences.why_not(bench, 1) == ""
    assert len(StateDir(tmp_path).leftovers()) == 1
