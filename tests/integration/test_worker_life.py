"""A whole worker against a log in memory, time virtual: its lives, and what is cut off or left."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import (
    Handle,
)
from adapters.local import LocalAdapter
from events.dlq import DeadLetter
from events.errors import LogUnavailable
from events.log import Outgoing
from events.reports import (
    AttemptEnded,
    BenchTornDown,
    StepStarted,
    WorkerDraining,
    WorkerHeartbeat,
    WorkerStopped,
)
from events.shared import BenchSpec
from events.tasks import RunAttempt, TearDownBench, WorkerSuperseded
from processors.worker.agent import Superseded
from tests.unit.processors.worker.lab import (
    TOPICS,
    Lab,
    attempt,
    in_lab,
    is_beat,
    names,
    play,
    stop,
)

STEPS = [f"StepStarted:{step}" for step in ("provision", "run", "collect")]


@pytest.mark.parametrize("cut", ["is_away", "is_deaf"])
@pytest.mark.parametrize("is_stubborn", [False, True])
def test_cut_off_it_frees_the_hardware_before_the_scheduler_gives_it_away(
    tmp_path: Path, is_stubborn: bool, cut: str
) -> None:
    async def scene(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        await lab.tell(attempt(run_s=500, timeout_s=900.0, stubborn=is_stubborn))
        await lab.until(lambda: lab.adapter.alive)
        await asyncio.sleep(3)
        heard_at, first = loop.time(), lab.worker.life
        setattr(lab.log, cut, True)
        await lab.until(lambda: lab.adapter.torn_down)
        assert loop.time() - heard_at < lab.settings.scheduler_deadline_s
        assert not lab.adapter.alive
        setattr(lab.log, cut, False)
        await lab.until(lambda: lab.worker.epoch > 1 and lab.worker.is_registered)
        assert not lab.worker.running()
        assert not lab.reports(AttemptEnded), "nobody would believe the old life"
        lab.adapter.calls.clear()
        await lab.tell(attempt("exe-2"), life=first)
        # A call that ignored its end may still drive its own bench, but no other.
        await lab.tell(attempt("exe-3", bench="b-2"))
        assert (await lab.ended("exe-3")).verdict == "passed"
        assert not [r for r in lab.reports(StepStarted) if r.execution_id == "exe-2"], "void"

    in_lab(tmp_path, scene)


def test_a_short_cut_loses_nothing(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=4, lines=["x"]))
        await lab.until(lambda: lab.adapter.alive)
        lab.log.is_away = True
        await asyncio.sleep(3)
        lab.log.is_away = False
        assert (await lab.ended()).verdict == "passed"

    lab = in_lab(tmp_path, scene)
    assert lab.worker.epoch == 1


def test_a_lost_answer_repeats_but_never_reorders(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.log.is_losing_answers = True
        with pytest.raises(LogUnavailable):
            await lab.tell(attempt())
        await asyncio.sleep(2)
        lab.log.is_losing_answers = False
        await lab.until(lambda: lab.reports(AttemptEnded))

    lab = in_lab(tmp_path, scene)
    messages = [m for m in lab.log.read(TOPICS.reports) if not is_beat(m.body)]
    first: dict[str, Any] = {}
    for message in messages:
        first.setdefault(message.meta.report_id, message.body)
    assert len(first) < len(messages), "something did come twice"
    expected = ["WorkerStarted", *STEPS, "StepStarted:teardown", "AttemptEnded"]
    assert names(list(first.values()))[: len(expected)] == expected


def test_superseded_by_a_newer_life_it_stops_and_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        running = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        newest = WorkerSuperseded(newest_epoch=9, newest_life="other", newest_host="rack-2 (pid 7)")
        await lab.tell(newest)
        with pytest.raises(Superseded, match=r"epoch 9.*on rack-2 \(pid 7\).*another process"):
            await asyncio.wait_for(running, 60)
        assert not lab.adapter.alive
        assert len(lab.adapter.torn_down) == 1
        again = asyncio.create_task(lab.make().run())
        await lab.registered()
        assert lab.worker.epoch == 10, "started again, it is the newest"
        lab.worker.stop()
        await again

    play(scene)


def test_lost_by_the_scheduler_it_begins_a_new_life(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        first = lab.worker.life
        await lab.tell(WorkerSuperseded(newest_epoch=1))
        await lab.until(lambda: lab.worker.epoch == 2 and lab.worker.is_registered)
        assert not lab.adapter.alive
        assert len(lab.adapter.torn_down) == 1
        # Late: of the life before.
        await lab.tell(WorkerSuperseded(newest_epoch=1), life=first)
        await lab.tell(attempt("exe-2", fence=8))
        assert (await lab.ended("exe-2")).verdict == "passed"
        assert lab.worker.epoch == 2

    in_lab(tmp_path, scene)


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        ('{"id": "other/1"}', ""),
        (None, ""),
        ('{"id": "broken"}', "AdapterError: still powered"),
    ],
)
def test_compensation_by_handle(tmp_path: Path, handle: str | None, error: str) -> None:
    async def scene(lab: Lab) -> None:
        task = TearDownBench(
            execution_id="other", attempt=1, fence=5, bench=attempt().bench, handle=handle
        )
        await lab.tell(task)
        await lab.until(lambda: lab.reports(BenchTornDown))
        (report,) = lab.reports(BenchTornDown)
        assert (report.bench, report.fence, report.error) == ("b-1", 5, error)
        assert lab.adapter.torn_down == ([] if error else ['{"id": "other/1"}'])

    in_lab(tmp_path, scene)


def test_a_secret_of_the_worker_is_hidden_where_a_teardown_fails(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        task = TearDownBench(
            execution_id="x", attempt=1, fence=5, bench=attempt().bench, handle='{"id": "broken"}'
        )
        await lab.tell(task)
        await lab.until(lambda: lab.reports(BenchTornDown))
        (report,) = lab.reports(BenchTornDown)
        assert report.error == "AdapterError: still ***"

    in_lab(tmp_path, scene, secrets=("powered",))


def test_a_file_whose_name_holds_a_secret_is_not_kept(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        ended = await lab.ended()
        assert "out/a.bin" not in {each.path for each in ended.artifacts}
        assert "not kept: its name holds a secret" in ended.reason
        assert "out/a.bin" not in ended.reason

    in_lab(tmp_path, scene, secrets=("a.bin",))


def test_compensation_of_an_attempt_still_going_ends_it_first(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        await lab.tell(
            TearDownBench(execution_id="exe-1", attempt=1, fence=7, bench=attempt().bench)
        )
        await lab.until(lambda: lab.reports(BenchTornDown))
        assert not lab.adapter.alive
        assert not lab.worker.running()

    in_lab(tmp_path, scene)


def test_it_drains(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        running = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt(run_s=20))
        await lab.until(lambda: lab.adapter.alive)
        lab.worker.drain("SIGTERM")
        await running
        assert names(lab.reports())[-2:] == ["AttemptEnded", "WorkerStopped"]
        assert lab.reports(AttemptEnded)[0].verdict == "passed"
        assert lab.reports(WorkerDraining)[0].reason == "SIGTERM"

    play(scene)


def test_draining_has_a_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path, drain_s=5.0)
        running = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        lab.worker.drain("SIGTERM")
        await running
        (ended,) = lab.reports(AttemptEnded)
        assert (ended.verdict, ended.code, ended.is_retriable) == ("error", "worker_draining", True)
        assert isinstance(lab.reports()[-1], WorkerStopped)
        assert not lab.adapter.alive

    play(scene)


def test_killed_and_started_again_it_clears_what_it_left(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        killed = asyncio.create_task(lab.worker.run())
        await lab.registered()
        await lab.tell(attempt(run_s=500))
        await lab.until(lambda: lab.adapter.alive)
        state = {
            path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()
        }
        killed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killed
        for path, content in state.items():
            path.write_bytes(content)  # As kill -9 would have left it.
        lab.adapter.torn_down.clear()
        lab.adapter.at_start.append(Handle('{"id": "orphan"}'))
        again = asyncio.create_task(lab.make().run())
        await lab.until(lambda: len(lab.adapter.torn_down) == 2)
        assert lab.adapter.torn_down == ['{"id": "exe-1/1"}', '{"id": "orphan"}']
        assert lab.worker.epoch == 2
        assert list((tmp_path / "state" / "handles").iterdir()) == []
        lab.worker.stop()
        await again

    play(scene)


def test_refusals_and_poison_leave_it_serving(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=20))
        await lab.until(lambda: lab.adapter.alive)
        await lab.tell(attempt("exe-2"))
        assert (await lab.ended("exe-2")).code == "bench_busy"
        await lab.tell(attempt("exe-3", bench="b-2"))
        assert (await lab.ended("exe-3")).code == "no_slot"
        poison = Outgoing(topic=TOPICS.tasks, key=b"w-1", value=b"\x00\x00\x00\xff\xffxx")
        await lab.log.append([poison])
        await lab.until(lambda: lab.log.read(TOPICS.dlq))
        (letter,) = lab.log.read(TOPICS.dlq)
        assert isinstance(letter, DeadLetter)
        assert (letter.value, letter.found_by) == (poison.value, "worker w-1")
        assert (await lab.ended()).verdict == "passed"
        bad = attempt("exe-4", fence=8)
        spec = BenchSpec(name="b", labels={}, adapter="scripted", config="[]")
        await lab.tell(
            RunAttempt(execution_id="exe-4", attempt=1, fence=8, bench=spec, run=bad.run)
        )
        ended = await lab.ended("exe-4")
        assert (ended.verdict, ended.code, ended.is_retriable) == (
            "error",
            "provision_failed",
            False,
        )

    in_lab(tmp_path, scene, slots=1)


def test_heartbeats_say_what_runs(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=10))
        await lab.ended()
        await asyncio.sleep(5)

    beats = [set(r.running) for r in in_lab(tmp_path, scene).reports(WorkerHeartbeat)]
    assert len(beats) >= 7
    assert any(beats)
    assert not beats[-1]


def test_real_processes_through_the_local_adapter(tmp_path: Path) -> None:
    """The same worker with the adapter that people use first, in real time."""
    script = (
        "import os, sys\n"
        "print('bench', os.environ['TEO_BENCH'], os.environ['API_TOKEN'])\n"
        "print('to stderr', file=sys.stderr)\n"
        "open(os.environ['TEO_ARTIFACTS_DIR'] + '/a.txt', 'w').write('kept')\n"
        "open('r.xml', 'w').write('<testsuite><testcase name=\"one\"/></testsuite>')\n"
        "sys.exit(int(os.environ['MODE'] != 'fast'))\n"
    )

    async def scene() -> None:
        lab = Lab(tmp_path)
        lab.adapters = {"local": LocalAdapter(tmp_path / "adapter")}
        worker = lab.make()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await lab.registered()
            task = attempt()
            bench = replace(task.bench, adapter="local", config="{}")
            command = (sys.executable, "-c", script)
            run = replace(task.run, command=command, junit=("*.xml",), artifacts=())
            await lab.tell(replace(task, bench=bench, run=run))
            ended = await lab.ended()
            hang = replace(run, command=(sys.executable, "-c", "import time; time.sleep(600)"))
            await lab.tell(replace(task, execution_id="exe-2", fence=8, bench=bench, run=hang))
            await lab.until(lambda: [r for r in lab.reports(StepStarted) if r.step == "run"][1:])
            await lab.tell(replace(stop(fence=8), execution_id="exe-2"))
            cancelled = await lab.ended("exe-2")
            worker.stop()
        assert (ended.verdict, ended.totals.passed, ended.teardown_error) == ("passed", 1, "")
        assert {a.kind for a in ended.artifacts} == {"log", "junit", "artifact"}
        lines = {line for batch in lab.log.read(TOPICS.logs) for line in batch.lines}
        assert lines == {"bench b-1 ***", "to stderr"}
        assert (cancelled.verdict, cancelled.teardown_error) == ("cancelled", "")

    asyncio.run(scene())
