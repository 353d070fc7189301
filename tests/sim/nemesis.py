"""Breaks things, by the seed: kills, pauses, absences, faults of single calls, and double lives."""

import asyncio
import random

from tests.sim.memory_cluster import Faults
from tests.sim.world import POOLS, RESTART_S, World

WORKERS = {"w1": POOLS[0], "w2": POOLS[0], "w3": POOLS[1]}
SCHEDULERS = ("s1", "s2")
HOUR_S = 3600.0


def faults_of(seed: int) -> Faults:
    """Return how bad the calls of a seed are: from not at all to often."""
    dice = random.Random(f"faults/{seed}")
    bad = dice.choice([0.0, 0.01, 0.05])
    return Faults(
        latency_s=dice.choice([0.0, 0.02, 0.3]),
        append_lost=bad,
        append_unknown=bad,
        append_twice=dice.choice([0.0, 0.05, 0.2]),
        commit_lost=bad,
        commit_unknown=bad,
        stale_end=bad,
        read_lost=bad / 2,
        topic_unseen=bad / 5,
        reorder=dice.choice([0.0, 0.5]),
        crash=dice.choice([0.0, 0.0, 0.0005, 0.002]),
    )


KINDS = (
    "scheduler",
    "worker",
    "pause",
    "pause",
    "away",
    "clock",
    "disk",
    "disk",
    "config",
    "config",
    "nothing",
)


KINDS_OF_LIVES = ("twin", "copy", "lost folder", "old folder", "forgotten", "clone")


async def clocks(world: World) -> None:
    """Set the clocks of a seed: of most never, of the others up to two times."""
    dice = random.Random(f"clocks/{world.seed}")
    for _ in range(dice.choice([0, 0, 1, 2])):
        await asyncio.sleep(dice.uniform(3.0, 20.0))
        world.set_clock(dice.choice([-2, 2]) * HOUR_S)


async def fill(world: World, name: str, full_s: float) -> None:
    """Fill the disk of a worker for a while."""
    world.fill_disk(name)
    await asyncio.sleep(full_s)
    world.free_disk(name)


async def nemesis(world: World, *, strikes: int) -> None:
    """Strike a number of times, one after the other."""
    dice = random.Random(f"nemesis/{world.seed}")
    async with asyncio.TaskGroup() as group:
        for _ in range(strikes):
            await asyncio.sleep(dice.uniform(0.5, 8.0))
            kind = dice.choice(KINDS)
            world.count(kind)
            if kind == "scheduler":
                await world.restart(dice.choice(SCHEDULERS), dice.uniform(0, RESTART_S))
            elif kind == "worker":
                name = dice.choice(sorted(WORKERS))
                await world.restart(name, dice.choice([0.0, RESTART_S, 14.0]))
            elif kind == "pause":
                name = dice.choice([*SCHEDULERS, *sorted(WORKERS)])
                world.logs[name].pause(dice.choice([0.5, 3.0, 7.0, 12.0, 20.0]))
            elif kind == "clock":
                name = dice.choice([*SCHEDULERS, *sorted(WORKERS)])
                world.clock_offsets_s[name] = dice.choice([-3600.0, -5.0, 2.0, 15.0])
            elif kind == "disk":
                task = fill(world, dice.choice(sorted(WORKERS)), dice.choice([0.5, 6.0, 25.0]))
                group.create_task(task)
            elif kind == "config":
                await world.apply_picky_bench(dice.choice(POOLS), is_right=dice.random() < 0.6)
            elif kind == "away":
                world.cluster.leave(dice.choice([0.5, 3.0, 9.0]))


async def double_lives(world: World, *, strikes: int) -> None:
    """Make of one worker two, or take from one what it knows, one strike after the other."""
    dice = random.Random(f"lives/{world.seed}")
    for _ in range(strikes):
        await asyncio.sleep(dice.uniform(1.0, 12.0))
        kind = dice.choice(KINDS_OF_LIVES)
        name = dice.choice(sorted(WORKERS))
        world.count(kind)
        if kind in ("twin", "copy", "clone"):
            is_clone = kind == "clone"
            twin = (
                world.start_clone(name)
                if is_clone
                else world.start_twin(name, is_copy=kind == "copy")
            )
            await asyncio.sleep(dice.choice([3.0, 15.0, 40.0]))
            await world.end_twin(twin)
        elif kind == "lost folder":
            await world.lose_folder(name, dice.choice([0.0, RESTART_S, 5.0]))
        elif kind == "old folder":
            kept = world.keep_folder(name)
            await asyncio.sleep(dice.uniform(2.0, 15.0))
            await world.lose_folder(name, dice.choice([0.0, RESTART_S, 5.0]), kept=kept)
        elif kind == "forgotten":
            world.logs[name].attempts_unheard = dice.choice([1, 2])
