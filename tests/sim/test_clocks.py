"""Clocks that are set under a running lab: forward, back, by hours and by days, and right again."""

import asyncio
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events import facts
from processors.runtime import log_time, timekeeper
from processors.runtime.log_time import LogTime, Stamp, Told
from processors.scheduler import evolve
from tests.sim import test_simulation
from tests.sim.calm import strike_only
from tests.sim.checkers import Violated
from tests.sim.durations import judge_durations
from tests.sim.loop import run
from tests.sim.memory_cluster import Faults
from tests.sim.test_simulation import live
from tests.sim.world import World

HOUR_S = 3600.0
SEEDS = 6
SEEDS_MAX = 40
SETTINGS = {
    "forward": (2 * HOUR_S,),
    "back": (-2 * HOUR_S,),
    "a day forward": (25 * HOUR_S,),
    "a day back": (-25 * HOUR_S,),
    "forward and right again": (25 * HOUR_S, -25 * HOUR_S),
    "back and right again": (-25 * HOUR_S, 25 * HOUR_S),
    "again and again": (2 * HOUR_S, 600.0, -45.0, -3 * HOUR_S, 25 * HOUR_S),
}


@pytest.fixture(autouse=True)
def _nobody_strikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are all that is wrong, and the log is slow now and then."""

    def slow(seed: int) -> Faults:
        dice = random.Random(f"slow/{seed}")
        return Faults(
            latency_s=dice.choice([0.0, 0.02, 0.2]), append_twice=0.1, reorder=dice.choice([0, 0.5])
        )

    strike_only(monkeypatch)
    monkeypatch.setattr(test_simulation, "faults_of", slow)


def happen(
    monkeypatch: pytest.MonkeyPatch, seed: int, by_s: tuple[float, ...], judge: Callable[..., None]
) -> None:
    """Live through one seed with clocks that are set so; hand the world to `judge`."""
    worlds: list[World] = []

    def made(*given: Any, **more: Any) -> World:
        worlds.append(World(*given, **more))
        return worlds[0]

    async def clocks(world: World) -> None:
        dice = random.Random(f"when/{seed}")
        for each in by_s:
            await asyncio.sleep(dice.uniform(5.0, 12.0))
            world.set_clock(each)

    monkeypatch.setattr(test_simulation, "World", made)
    monkeypatch.setattr(test_simulation, "clocks", clocks)
    with tempfile.TemporaryDirectory() as folder:
        judge(lambda: run(live(seed, Path(folder))), worlds)


@pytest.mark.parametrize("by_s", SETTINGS.values(), ids=SETTINGS)
def test_what_is_given_for_a_time_lasts_as_long(
    monkeypatch: pytest.MonkeyPatch, by_s: tuple[float, ...]
) -> None:
    """`live` judges it, with all the rest; each jump forward is named where it was measured."""
    named = measured = 0

    def judge(play: Callable[[], World], _: list[World]) -> None:
        nonlocal named, measured
        world = play()
        for number in range(world.cluster.partitions):
            measured += sum(number in each.measured for each in world.clock_jumps)
            named += sum(isinstance(e.body, facts.ClockJumped) for e in world.journal(number))
        codes = [
            message.body.code
            for number in range(world.cluster.partitions)
            for message in world.journal(number)
            if isinstance(message.body, facts.AttemptFinished)
        ]
        assert "attempt_overdue" not in codes

    for seed in range(SEEDS):
        happen(monkeypatch, seed, by_s, judge)
    assert measured >= SEEDS
    assert named > 0


def expect_objection(monkeypatch: pytest.MonkeyPatch, by_s: tuple[float, ...]) -> None:
    """Live through seeds until the judge says that something was over too early."""
    said: list[str] = []
    monkeypatch.setattr(test_simulation, "SETTLE_S", 60.0)

    def judge(play: Callable[[], World], worlds: list[World]) -> None:
        try:
            play()
        except Exception as error:  # noqa: BLE001 -- whatever else it breaks, durations count here.
            said.append(repr(error)[:200])
        for number in range(worlds[0].cluster.partitions):
            judge_durations(worlds[0], number)

    for seed in range(SEEDS_MAX):
        try:
            happen(monkeypatch, seed, by_s, judge)
        except Violated as violated:
            said.append(str(violated))
            if "before its time, measured" in said[-1]:
                return
    pytest.fail(f"no checker objects; {said}")


def believed(time: LogTime, stamp: Stamp) -> Told:
    """Take every stamp for the time, as one does who thinks that clocks are never set."""
    told = log_time._begin(time, stamp)
    return Told(replace(told.time, is_sure=True, shifts_s={}), told.at_s)


def test_without_measuring_a_jump_ends_what_should_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timekeeper, "tell", believed)
    expect_objection(monkeypatch, (2 * HOUR_S,))


def test_without_moving_deadlines_a_jump_ends_what_should_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evolve, "shift", lambda *_: None)
    expect_objection(monkeypatch, (2 * HOUR_S,))


def test_with_stamps_of_before_leases_after_a_jump_back_are_cut_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Off: that the stamps of a clock that was set back are shifted."""

    def unshifted(time: LogTime, stamp: Stamp, _: float) -> Told:
        return Told(time, stamp.stamp_s)

    monkeypatch.setattr(log_time, "_behind", unshifted)
    expect_objection(monkeypatch, (-2 * HOUR_S,))
