"""Breaks roles, brokers, the network, a disk and a clock, by seeded dice; counts what it did.

Two hands: one for the brokers, never at two of them, and waiting until all copies are in step
again; one for the roles. Each mends what it broke before it breaks the next thing.
"""

import asyncio
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.local.cluster import EmbeddedKafka
from tests.chaos.disk import Disk
from tests.chaos.proxy import (
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    FETCH,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    METADATA,
    PRODUCE,
    Action,
    Proxy,
    Rule,
)
from tests.chaos.roles import RoleProcess

IN_STEP_S_MAX = 60.0
SLOW_BYTES_S = 30_000.0
REQUESTS = frozenset(
    {PRODUCE, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, FIND_COORDINATOR, METADATA, FETCH}
)
BAD_REQUESTS = (
    (Action.DELAY_REQUEST, 0.004, (0.0, 2.0)),
    (Action.DELAY_ANSWER, 0.004, (0.0, 2.0)),
    (Action.LATE_REQUEST, 0.002, (0.0, 5.0)),
    (Action.CUT_REQUEST, 0.002, (0.0, 0.0)),
    (Action.CUT_ANSWER, 0.002, (0.0, 0.0)),
    (Action.DROP_REQUEST, 0.0005, (0.0, 0.0)),
    (Action.DROP_ANSWER, 0.0005, (0.0, 0.0)),
)
CLOCK_JUMPS_S = (-90_000.0, -3_600.0, -30.0, 30.0, 3_600.0, 90_000.0)
"""The longest are longer than repeats are known."""
CLONE_ODDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What may be broken."""

    kafka: EmbeddedKafka
    proxy: Proxy
    roles: Sequence[RoleProcess]
    disk: Disk
    clocks: Mapping[str, Path]
    """By whose it is: the file that says how wrong a wall clock is."""
    twins: Path
    """Where second processes of a worker have their state."""
    in_step: Callable[[], Awaitable[bool]]
    """Whether every partition has all its copies in step."""


class Nemesis:
    """Strikes until cancelled; then everything must be mended with `heal`."""

    def __init__(self, targets: Targets, seed: int, note: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._targets = targets
        self._note = note
        self._seed = seed

    async def run(self) -> None:
        """Strike with both hands, while single requests go wrong all the time."""
        self._targets.proxy.rules += [
            Rule(action=action, apis=REQUESTS, odds=odds, delay_s=delay_s)
            for action, odds, delay_s in BAD_REQUESTS
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._break_brokers(random.Random(f"brokers/{self._seed}")))
            group.create_task(self._break_roles(random.Random(f"roles/{self._seed}")))

    async def heal(self) -> None:
        """Mend everything."""
        targets = self._targets
        targets.proxy.clear()
        targets.disk.free()
        for clock in targets.clocks.values():
            clock.write_text("0")
        for role in targets.roles:
            role.signal(signal.SIGCONT)
            role.start()
        await targets.kafka.heal()

    def _count(self, kind: str, what: str, seconds: float = 0.0) -> None:
        self.counts[kind] += 1
        self._note(f"{kind}: {what}" + (f" for {seconds:.1f} s" if seconds else ""))

    async def _break_brokers(self, dice: random.Random) -> None:
        strikes = [
            self._kill_broker,
            self._pause_broker,
            self._restart_broker,
            self._cut_node,
            self._hold_node,
            self._slow_node,
        ]
        while True:
            await asyncio.sleep(dice.uniform(2.0, 6.0))
            node = dice.randint(1, len(self._targets.kafka.ports))
            await dice.choice(strikes)(node, dice)
            await self._until_in_step()

    async def _until_in_step(self) -> None:
        end_s = time.monotonic() + IN_STEP_S_MAX
        while not await self._targets.in_step():
            if time.monotonic() > end_s:
                self._note("copies are not in step yet; going on all the same")
                return
            await asyncio.sleep(0.5)

    async def _kill_broker(self, node: int, dice: random.Random) -> None:
        down_s = dice.uniform(0.0, 8.0)
        self._count("kill -9 broker", f"node-{node}", down_s)
        kafka = self._targets.kafka
        await asyncio.to_thread(kafka.kill, node)
        await asyncio.sleep(down_s)
        await kafka.restart(node)

    async def _pause_broker(self, node: int, dice: random.Random) -> None:
        paused_s = dice.uniform(1.0, 10.0)
        self._count("SIGSTOP broker", f"node-{node}", paused_s)
        self._targets.kafka.pause(node)
        await asyncio.sleep(paused_s)
        self._targets.kafka.resume(node)

    async def _restart_broker(self, node: int, _: random.Random) -> None:
        self._count("SIGTERM broker", f"node-{node}")
        await self._targets.kafka.restart(node)

    async def _cut_node(self, node: int, dice: random.Random) -> None:
        for _ in range(dice.randint(1, 5)):
            self._count("cut connections of a broker", f"node-{node}")
            self._targets.proxy.cut(f"node-{node}")
            await asyncio.sleep(dice.uniform(0.1, 1.0))

    async def _hold_node(self, node: int, dice: random.Random) -> None:
        await self._hold(f"node-{node}", "black hole before a broker", dice.uniform(1.0, 12.0))

    async def _slow_node(self, node: int, dice: random.Random) -> None:
        await self._slow(f"node-{node}", "slow network of a broker", dice.uniform(3.0, 10.0))

    async def _hold(self, place: str, kind: str, seconds: float) -> None:
        self._count(kind, place, seconds)
        self._targets.proxy.hold(place)
        await asyncio.sleep(seconds)
        self._targets.proxy.release(place)

    async def _slow(self, place: str, kind: str, seconds: float) -> None:
        self._count(kind, place, seconds)
        self._targets.proxy.weather.bytes_s[place] = SLOW_BYTES_S
        await asyncio.sleep(seconds)
        self._targets.proxy.release(place)

    async def _break_roles(self, dice: random.Random) -> None:
        strikes = [
            *([self._kill_role] * 4),
            *([self._pause_role] * 3),
            *([self._restart_role] * 2),
            self._cut_role,
            self._hold_role,
            self._hold_role,
            self._slow_role,
            self._fill_disk,
            self._jump_clock,
            self._jump_clock,
            self._start_twin,
            self._lose_state,
        ]
        while True:
            await asyncio.sleep(dice.uniform(0.5, 4.0))
            # By kind first, so that no kind is struck more for being many.
            kind = dice.choice(
                ["scheduler", "scheduler", "worker", "worker", "worker", "api", "watcher"]
            )
            role = dice.choice([each for each in self._targets.roles if each.kind == kind])
            await dice.choice(strikes)(role, dice)

    async def _kill_role(self, role: RoleProcess, dice: random.Random) -> None:
        down_s = dice.choice([0.0, 1.0, dice.uniform(1.0, 15.0)])
        self._count(f"kill -9 {role.kind}", role.name, down_s)
        await role.kill()
        await asyncio.sleep(down_s)
        role.start()

    async def _pause_role(self, role: RoleProcess, dice: random.Random) -> None:
        paused_s = dice.choice([dice.uniform(0.5, 5.0), dice.uniform(5.0, 18.0)])
        self._count(f"SIGSTOP {role.kind}", role.name, paused_s)
        role.signal(signal.SIGSTOP)
        await asyncio.sleep(paused_s)
        role.signal(signal.SIGCONT)

    async def _restart_role(self, role: RoleProcess, _: random.Random) -> None:
        self._count(f"SIGTERM {role.kind}", role.name)
        await role.stop()
        role.start()

    async def _cut_role(self, role: RoleProcess, _: random.Random) -> None:
        self._count(f"cut connections of {role.kind}", role.name)
        self._targets.proxy.cut(role.name)

    async def _hold_role(self, role: RoleProcess, dice: random.Random) -> None:
        await self._hold(role.name, f"black hole around {role.kind}", dice.uniform(1.0, 15.0))

    async def _slow_role(self, role: RoleProcess, dice: random.Random) -> None:
        await self._slow(role.name, f"slow network of {role.kind}", dice.uniform(3.0, 10.0))

    async def _fill_disk(self, _: RoleProcess, dice: random.Random) -> None:
        disk = self._targets.disk
        if disk.reason:
            self.skipped[f"full disk of a worker ({disk.reason})"] += 1
            return
        full_s = dice.uniform(3.0, 12.0)
        self._count("full disk of a worker", disk.folder.name, full_s)
        disk.fill()
        await asyncio.sleep(full_s)
        disk.free()

    async def _jump_clock(self, _: RoleProcess, dice: random.Random) -> None:
        whose, jump_s = dice.choice(sorted(self._targets.clocks)), dice.choice(CLOCK_JUMPS_S)
        self._count(f"clock jump of {whose}", f"{jump_s:+.0f} s")
        self._targets.clocks[whose].write_text(str(jump_s))

    async def _start_twin(self, _: RoleProcess, dice: random.Random) -> None:
        """Start a second process under a worker's id, with a fresh state folder or a copy."""
        role = self._a_worker(dice)
        folder = self._targets.twins / f"{role.name}-{sum(self.counts.values())}"
        is_clone, lives_s = dice.random() < CLONE_ODDS, dice.uniform(3.0, 25.0)
        if is_clone:
            with suppress(shutil.Error, OSError):  # It changes while it is copied.
                await asyncio.to_thread(shutil.copytree, role.state_dir, folder, symlinks=True)
        self._count("cloned worker" if is_clone else "twin of a worker", role.name, lives_s)
        twin = role.twin(folder)
        twin.start()
        try:
            await asyncio.sleep(lives_s)
        finally:
            await twin.kill()

    async def _lose_state(self, _: RoleProcess, dice: random.Random) -> None:
        """Kill a worker and start it at once with an empty state folder."""
        role = self._a_worker(dice)
        self._count("lost state folder of a worker", role.name)
        await role.kill()
        for entry in list(role.state_dir.iterdir()):
            await asyncio.to_thread(_remove, entry)
        role.start()

    def _a_worker(self, dice: random.Random) -> RoleProcess:
        return dice.choice([each for each in self._targets.roles if each.kind == "worker"])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
