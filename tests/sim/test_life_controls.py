"""With a protection of worker lives off, a checker objects: two processes are one worker, or none.

Nothing else is broken here. Each control runs seeds until the objection comes that its protection
is there for; with all protections on, the same strikes do no harm.
"""

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from events.commands import CancelExecution
from events.facts import ExecutionSubmitted
from events.shared import ReportMeta, TaskMeta
from processors.scheduler import deadlines, lives, reports
from processors.scheduler.state import Worker as Registered
from processors.worker import attempts, state_dir
from processors.worker.life import Life
from processors.worker.registration import Identity
from tests.sim import test_simulation
from tests.sim.calm import strike_only
from tests.sim.checkers import Violated
from tests.sim.loop import run
from tests.sim.nemesis import WORKERS
from tests.sim.test_simulation import live, live_in_order
from tests.sim.world import World

SEEDS_MAX = 20
ASKS = 15
STRIKES = 4
SETTLE_S = 120.0
"""Much less than an attempt may take, and more than any end of it is waited for."""
Strike = Callable[[World, random.Random], Any]
Change = Callable[[pytest.MonkeyPatch], None]


async def twin(world: World, dice: random.Random) -> None:
    """Start a second process under a worker's id, on a fresh folder."""
    name = world.start_twin(dice.choice(sorted(WORKERS)), is_copy=False)
    await asyncio.sleep(25.0)
    await world.end_twin(name)


async def copy(world: World, dice: random.Random) -> None:
    """The same on a copy of the folder as it is while a test runs."""
    name = world.start_twin(await _busy(world, dice), is_copy=True)
    await asyncio.sleep(25.0)
    await world.end_twin(name)


async def clone(world: World, dice: random.Random) -> None:
    """Start a worker with an id of its own on such a copy."""
    name = world.start_clone(await _busy(world, dice))
    await asyncio.sleep(25.0)
    await world.end_twin(name)


async def _busy(world: World, dice: random.Random) -> str:
    """Return a worker that has something to tear down, if one has soon."""
    name = dice.choice(sorted(WORKERS))
    for _ in range(100):
        if list((world.folder / name / "handles").glob("*.json")):
            break
        await asyncio.sleep(0.1)
    return name


async def forget(world: World, dice: random.Random) -> None:
    """Let a worker forget the next attempt it is given."""
    world.logs[dice.choice(sorted(WORKERS))].attempts_unheard = 1
    await asyncio.sleep(5.0)


async def forget_and_cancel(world: World, dice: random.Random) -> None:
    """The same, and have everything cancelled that goes on then."""
    await forget(world, dice)
    for log in world.logs.values():
        log.attempts_unheard = 0
    open_ = set(live_in_order(world))
    for number in range(world.cluster.partitions):
        for message in world.journal(number):
            body = message.body
            if isinstance(body, ExecutionSubmitted) and body.execution_id in open_:
                await world.ask(
                    message.meta.pool,
                    CancelExecution(execution_id=body.execution_id, reason="enough"),
                )


async def lose(world: World, dice: random.Random) -> None:
    """Take a worker's folder away and start it again at once."""
    await world.lose_folder(dice.choice(sorted(WORKERS)), 0.0)
    await asyncio.sleep(5.0)


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_simulation, "SETTLE_S", SETTLE_S)
    monkeypatch.setattr(test_simulation, "ASKS", ASKS)
    strike_only(monkeypatch)


def objections(patch: pytest.MonkeyPatch, strike: Strike, seeds: int = SEEDS_MAX) -> Iterator[str]:
    """Yield what is said of each seed; nothing for a seed that shows no harm."""

    async def strikes(world: World, **_: object) -> None:
        dice = random.Random(f"strike/{world.seed}")
        for _turn in range(STRIKES):
            await asyncio.sleep(dice.uniform(1.0, 6.0))
            await strike(world, dice)

    patch.setattr(test_simulation, "double_lives", strikes)
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            worlds: list[World] = []

            def made(*given: Any, worlds: list[World] = worlds) -> World:
                worlds.append(World(*given))
                return worlds[0]

            patch.setattr(test_simulation, "World", made)
            try:
                run(live(seed, Path(folder)))
                worlds[0].hardware.judge()
            except Violated as violated:
                yield " ".join([str(violated), *worlds[0].hardware.objections])


def expect(found: Iterator[str], *words: str) -> None:
    """Take objections until one has one of `words`."""
    seen = []
    for said in found:
        if any(each in said for each in words):
            return
        seen.append(said[:100])
    pytest.fail(f"nobody objects with {words}; they said {seen}")


@pytest.mark.parametrize("strike", [twin, copy, clone, forget, lose])
def test_with_all_protections_on_nothing_is_objected_to(
    monkeypatch: pytest.MonkeyPatch, strike: Strike
) -> None:
    assert list(objections(monkeypatch, strike, seeds=4)) == []


def by_epoch_alone(patch: pytest.MonkeyPatch) -> None:
    """Tell lives apart by their epochs, as folders give them."""

    def is_of(worker: Registered, meta: ReportMeta) -> bool:
        return worker.epoch == meta.epoch

    def is_for(self: Identity, meta: TaskMeta) -> bool:
        return meta.epoch == self.epoch

    patch.setattr(lives, "is_of", is_of)
    patch.setattr(reports, "is_of", is_of)
    patch.setattr(Identity, "is_for", is_for)


def test_without_ids_of_lives_twins_drive_one_bench_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_epoch_alone(monkeypatch)
    expect(objections(monkeypatch, twin), "drives lab-")


def test_without_ids_of_lives_the_self_check_finds_twins_by_what_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_epoch_alone(monkeypatch)
    monkeypatch.setattr("tests.sim.hardware.Hardware.judge", lambda _: None)
    expect(objections(monkeypatch, twin), "is said to begin twice", "speak in turns")


def test_a_copy_of_a_folder_that_is_taken_for_the_folder_kills_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_dir.StateDir, "_lock_name", lambda _: "the same everywhere")
    expect(objections(monkeypatch, copy), "torn down under", "drives lab-")


def test_what_a_copied_folder_notes_is_somebody_elses_also_under_another_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_dir.StateDir, "disown", lambda _: None)
    expect(objections(monkeypatch, clone), "torn down under")


def test_leftovers_that_are_cleared_before_the_log_accepts_are_somebody_elses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That nothing of a copy is torn down at all is a protection of its own, which is off here."""

    async def at_once(self: Life) -> None:
        await self._clear()
        await self._registered.wait()
        self._attempts.begin()

    monkeypatch.setattr(Life, "_clear_when_accepted", at_once)
    monkeypatch.setattr(state_dir.StateDir, "disown", lambda _: None)
    expect(objections(monkeypatch, copy), "torn down under")


def test_what_a_life_forgot_is_never_over_if_its_silence_means_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlines, "UNNAMED_S", 1e9)
    expect(objections(monkeypatch, forget), "never ends")


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_stop_of_what_is_not_there_must_be_answered(
    monkeypatch: pytest.MonkeyPatch, is_answered: bool
) -> None:
    """Heartbeats would find it too, later; here they mean nothing."""
    stop = attempts.Attempts.stop

    def in_silence(self: attempts.Attempts, task: Any, meta: TaskMeta) -> None:
        if (task.execution_id, task.attempt) in self._runners:
            stop(self, task, meta)

    monkeypatch.setattr(deadlines, "UNNAMED_S", 1e9)
    if is_answered:
        assert list(objections(monkeypatch, forget_and_cancel, seeds=4)) == []
    else:
        monkeypatch.setattr(attempts.Attempts, "stop", in_silence)
        expect(objections(monkeypatch, forget_and_cancel), "never ends")
