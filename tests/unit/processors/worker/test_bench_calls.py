"""A call that ignores its cancel: nothing is begun beside it, and its bench is not called clean."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Attempt, Collected, Exit, Handle
from events.reports import AttemptEnded, BenchTornDown
from events.shared import StepPolicy
from events.tasks import TearDownBench
from tests.unit.processors.worker.lab import Lab, ScriptedAdapter, attempt, in_lab, stop

FOR_EVER_S = 3_000.0
LIMIT_S = 20.0
CANCEL_S = 5.0
TWO_TRIES = StepPolicy(step="provision", timeout_s=LIMIT_S, retries=1, backoff_s=0.0)


class DeafAdapter(ScriptedAdapter):
    """Its first call of a step goes on for the time given, whoever cancels it."""

    def __init__(self, **deaf_s: float) -> None:
        super().__init__()
        self._deaf_s = deaf_s
        self.going: list[str] = []
        self.beside: list[tuple[str, str]] = []
        """Each call with one that was still going on when it began."""

    async def _go_on(self, step: str) -> None:
        self.beside += [(step, other) for other in self.going]
        self.going.append(step)
        try:
            await _deaf(self._deaf_s.pop(step, 0.0))
        finally:
            self.going.remove(step)

    async def provision(self, attempt: Attempt) -> Handle:
        handle = await super().provision(attempt)
        await self._go_on("provision")
        return handle

    async def run(self, attempt: Attempt, handle: Handle, **more: Any) -> Exit:
        await self._go_on("run")
        return await super().run(attempt, handle, **more)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        await self._go_on("collect")
        return await super().collect(attempt, handle)

    async def teardown(self, handle: Handle) -> None:
        await super().teardown(handle)
        await self._go_on("teardown")


async def _deaf(for_s: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + for_s
    while loop.time() < until:
        try:
            await asyncio.sleep(until - loop.time())
        except asyncio.CancelledError:
            continue


def says(text: str, step: str) -> bool:
    """Return whether `text` names what was left behind, what that means, and what to do."""
    is_named = f"{step} did not end when cancelled and may still drive the bench" in text
    return is_named and "end the process of worker w-1" in text and "restore it" in text


async def end_of(lab: Lab) -> AttemptEnded:
    await lab.until(lambda: lab.reports(AttemptEnded), limit_s=600)
    (ended,) = lab.reports(AttemptEnded)
    return ended


async def torn_down(lab: Lab, fence: int = 7) -> str:
    """Order the bench of the attempt to be torn down; return why it is not clean."""
    bench = attempt().bench
    await lab.tell(TearDownBench(execution_id="exe-1", attempt=1, fence=fence, bench=bench))

    def found() -> list[BenchTornDown]:
        return [each for each in lab.reports(BenchTornDown) if each.fence == fence]

    await lab.until(found)
    return found()[0].error


@pytest.mark.parametrize("step", ["provision", "run", "collect", "teardown"])
def test_a_bench_is_not_clean_while_a_call_was_left_behind(tmp_path: Path, step: str) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(timeout_s=5.0))
        ended = await end_of(lab)
        assert says(ended.teardown_error, step), ended.teardown_error
        assert "teardown" in lab.adapter.calls

    in_lab(tmp_path, scene, DeafAdapter(**{step: FOR_EVER_S}))


def test_a_call_that_ended_before_the_attempt_is_not_spoken_of(tmp_path: Path) -> None:
    """It may have undone the teardown that it went on beside, so there is another one."""
    policy = StepPolicy(step="provision", timeout_s=LIMIT_S, retries=0, backoff_s=0.0)
    adapter = DeafAdapter(provision=LIMIT_S + CANCEL_S + 2.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(steps=(policy,)))
        ended = await end_of(lab)
        assert (ended.code, ended.teardown_error) == ("provision_timeout", "")

    in_lab(tmp_path, scene, adapter)
    assert adapter.calls == ["provision", "teardown", "teardown"]
    assert adapter.beside == [("teardown", "provision")], "the second began when all had ended"


def test_the_next_try_begins_when_the_one_left_behind_has_ended(tmp_path: Path) -> None:
    adapter = DeafAdapter(provision=LIMIT_S + CANCEL_S + 10.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(steps=(TWO_TRIES,)))
        ended = await end_of(lab)
        assert (ended.verdict, ended.teardown_error) == ("passed", "")

    in_lab(tmp_path, scene, adapter)
    tries = ["provision", "teardown", "teardown", "provision"]
    assert adapter.calls == [*tries, "run", "collect", "teardown"]
    assert adapter.beside == [("teardown", "provision")]


def test_a_step_fails_whose_earlier_try_does_not_end_within_its_limit(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        begun_s = asyncio.get_running_loop().time()
        await lab.tell(attempt(steps=(TWO_TRIES,)))
        ended = await end_of(lab)
        assert (ended.verdict, ended.code) == ("error", "provision_timeout")
        assert says(ended.reason, "provision")
        took_s = asyncio.get_running_loop().time() - begun_s
        assert took_s == pytest.approx(2 * LIMIT_S + 2 * CANCEL_S, abs=2.0)
        assert lab.adapter.calls.count("provision") == 1

    in_lab(tmp_path, scene, DeafAdapter(provision=FOR_EVER_S))


def test_a_cancel_ends_the_wait_for_a_call_left_behind(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(steps=(TWO_TRIES,)))
        await lab.until(lambda: "teardown" in lab.adapter.calls)
        await lab.tell(stop())
        ended = await lab.ended()
        assert (ended.verdict, lab.adapter.calls.count("provision")) == ("cancelled", 1)
        assert says(ended.teardown_error, "provision")

    in_lab(tmp_path, scene, DeafAdapter(provision=FOR_EVER_S))


def test_a_second_try_of_teardown_waits_for_the_first(tmp_path: Path) -> None:
    policy = StepPolicy(step="teardown", timeout_s=LIMIT_S, retries=1, backoff_s=0.0)
    adapter = DeafAdapter(teardown=LIMIT_S + CANCEL_S + 10.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(steps=(policy,)))
        assert (await end_of(lab)).teardown_error == ""

    in_lab(tmp_path, scene, adapter)
    assert (adapter.calls.count("teardown"), adapter.beside) == (2, [])


def test_the_next_attempt_waits_for_what_an_earlier_one_left_behind(tmp_path: Path) -> None:
    """Its bench was restored too early."""
    adapter = DeafAdapter(run=60.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(timeout_s=5.0))
        assert says((await end_of(lab)).teardown_error, "run")
        await lab.tell(attempt("exe-2", fence=8))
        assert (await lab.ended("exe-2")).verdict == "passed"

    in_lab(tmp_path, scene, adapter)
    assert [old for new, old in adapter.beside if new in ("provision", "run")] == []


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_compensation_says_what_this_worker_left_behind(tmp_path: Path, is_cut_off: bool) -> None:
    """In this life, whose attempt the scheduler gave up, and in the next one."""
    adapter = DeafAdapter(run=120.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        await lab.until(lambda: "run" in adapter.going)
        if is_cut_off:
            lab.log.is_away = True
            await lab.until(lambda: not lab.worker.is_registered)
            await asyncio.sleep(20)
            lab.log.is_away = False
            await lab.registered()
            assert list((tmp_path / "state" / "handles").iterdir()), "the next life tries again"
        assert says(await torn_down(lab), "run")
        await lab.until(lambda: not adapter.going, limit_s=200)
        assert await torn_down(lab, fence=8) == ""

    in_lab(tmp_path, scene, adapter)


class CrowdedAdapter(ScriptedAdapter):
    """The machine has no room for its first teardowns."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    async def teardown(self, handle: Handle) -> None:
        if self.calls.count("teardown") < self._times:
            self.calls.append("teardown")
            raise RuntimeError("can't start new thread")
        await super().teardown(handle)


@pytest.mark.parametrize(("times", "error"), [(9, ""), (9_999, "can't start new thread")])
def test_a_teardown_for_which_there_is_no_room_waits_for_it_within_its_limit(
    tmp_path: Path, times: int, error: str
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        ended = await end_of(lab)
        assert ended.verdict == "passed"
        assert error in ended.teardown_error
        assert bool(ended.teardown_error) == bool(error)

    in_lab(tmp_path, scene, CrowdedAdapter(times))
