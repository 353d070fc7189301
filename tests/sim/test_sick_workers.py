"""A worker whose disk is full for long: its attempts wait or go elsewhere, and burn no tries.

The controls take off what protects from it, one by one, and a checker objects.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from events import facts
from processors.saga import reactions
from processors.scheduler import reports
from processors.scheduler.deadlines import NO_BENCH
from processors.scheduler.state import Worker
from processors.scheduler.workers import FAULTS_MAX
from tests.sim import test_simulation
from tests.sim.calm import strike_only
from tests.sim.checkers import Violated
from tests.sim.loop import run
from tests.sim.test_simulation import live
from tests.sim.world import World

SEEDS = 4
ASKS = 15
SICK = {"w1": "lab-a", "w3": "lab-b"}
"""One beside a healthy worker, and the only one of its pool."""
FULL_S = 60.0


async def fill_disks(world: World, **_: object) -> None:
    """Fill the disks of some workers in the middle of things, then free them."""
    await asyncio.sleep(5.0)
    for name in SICK:
        world.fill_disk(name)
    await asyncio.sleep(FULL_S)
    for name in SICK:
        world.free_disk(name)


@pytest.fixture(autouse=True)
def _sick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_simulation, "ASKS", ASKS)
    monkeypatch.setattr(test_simulation, "SETTLE_S", 600.0)
    strike_only(monkeypatch, nemesis=fill_disks)


def happen(seed: int) -> World:
    """Run one seed."""
    with tempfile.TemporaryDirectory() as folder:
        return run(live(seed, Path(folder)))


def happen_all() -> None:
    """Run every seed."""
    for seed in range(SEEDS):
        happen(seed)


def bodies(world: World) -> Sequence[Any]:
    return [each.body for number in range(2) for each in world.journal(number)]


def test_a_sick_worker_is_suspended_costs_nobody_a_verdict_and_comes_back() -> None:
    for seed in range(SEEDS):
        found = bodies(happen(seed))
        suspended = Counter(e.worker for e in found if isinstance(e, facts.WorkerSuspended))
        resumed = Counter(e.worker for e in found if isinstance(e, facts.WorkerResumed))
        assert set(suspended) == set(SICK)
        assert suspended == resumed, "each is back by itself"
        burnt = [
            e for e in found if isinstance(e, facts.AttemptFinished) and e.code == "state_unusable"
        ]
        assert len(burnt) <= len(SICK) * FAULTS_MAX
        ends = [e for e in found if isinstance(e, facts.ExecutionFinished)]
        given_up = [e for e in ends if e.fault == "worker" and NO_BENCH not in e.reason]
        assert not given_up, "no try was used up; only a limited wait may end"


def test_without_suspension_attempts_burn_on_the_sick_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "worker_faulty", lambda *_: [])
    monkeypatch.setattr(reactions, "too_many_faults", lambda *_: [])
    with pytest.raises(Violated, match=r"gets an attempt after \d+ faults of its own"):
        happen_all()


def test_a_scheduler_that_gives_attempts_to_the_suspended_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serves(self: Worker, bench: Any) -> bool:
        return self.is_for(bench.spec.adapter, bench.spec.name) and self.accepts(bench)

    monkeypatch.setattr(Worker, "serves", serves)
    with pytest.raises(Violated, match="is suspended"):
        happen_all()


def test_a_scheduler_that_asks_no_adapter_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "accepts", lambda *_: True)
    with pytest.raises(Violated, match=r"did not take|which its adapter refuses"):
        happen_all()
