"""Tests that go on long after they are cancelled: no other one gets their bench meanwhile.

Nothing else is broken here: what a worker that is cut off cannot end, no rule of ours can.
"""

import asyncio
import tempfile
from pathlib import Path

import pytest

from events.commands import CancelExecution
from processors.worker.calls import Strays
from tests.sim import test_simulation
from tests.sim.calm import strike_only
from tests.sim.checkers import Violated
from tests.sim.hardware import DEAF_BENCH
from tests.sim.loop import run
from tests.sim.test_simulation import live
from tests.sim.world import World

SEEDS = 4
ASKS = 15
CANCELS = 20
PAUSE_S = 6.0
DEAF_S = 40.0
"""Much longer than a worker waits for a cancelled test."""


async def impatient(world: World, **_: object) -> None:
    """Cancel one test after the other that drives a deaf bench, and restore what looks sound."""
    for _turn in range(CANCELS):
        for place, who in sorted(world.hardware.driven_by.items()):
            pool, _slash, bench = place.partition("/")
            if bench == DEAF_BENCH:
                execution_id = who.partition("/")[0]
                await world.ask(pool, CancelExecution(execution_id=execution_id, reason="enough"))
        await asyncio.sleep(PAUSE_S)
        await world.restore_benches()


def happen(seed: int) -> World:
    """Run one seed."""
    with tempfile.TemporaryDirectory() as folder:
        return run(live(seed, Path(folder)))


@pytest.fixture(autouse=True)
def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(seed: int, folder: Path) -> World:
        world = World(seed, folder)
        world.hardware.deaf_s = DEAF_S
        return world

    monkeypatch.setattr(test_simulation, "World", made)
    monkeypatch.setattr(test_simulation, "ASKS", ASKS)
    strike_only(monkeypatch, nemesis=impatient)


def test_a_test_that_goes_on_keeps_its_bench_from_others() -> None:
    worlds = [happen(seed) for seed in range(SEEDS)]
    assert sum(world.hardware.deaf_runs for world in worlds) > SEEDS, "it really happened"
    assert any(world.counters.get("restored") for world in worlds)


def test_a_worker_that_forgets_what_it_left_behind_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Strays, "on", lambda *_: ())
    with pytest.raises(Violated, match=r"drives lab-./b2 while"):
        [happen(seed) for seed in range(SEEDS)]
