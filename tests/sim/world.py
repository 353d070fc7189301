"""A lab in one loop: real schedulers, workers and projections on a cluster in memory.

A nemesis kills, pauses and cuts; clients ask and ask again. Everything follows from the seed.
"""

import asyncio
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from opentelemetry.metrics import NoOpMeterProvider

from api.gateway import command_id_of
from events import facts
from events.codec import decode_event, encode
from events.commands import (
    ApplyBenches,
    CancelExecution,
    Command,
    ExtendReservation,
    QuarantineBench,
    ReleaseReservation,
    RequestReservation,
    RestoreBench,
    SubmitExecution,
)
from events.errors import LogUnavailable
from events.log import Outgoing
from events.message import EventMessage, Message
from events.shared import BenchSpec, CommandMeta, RunSpec, StepPolicy
from events.topics import Topics
from processors.artifacts.files import FileStore, inline
from processors.runtime.log_time import Clock
from processors.runtime.service import Scheduler
from processors.worker.agent import Superseded, Worker
from processors.worker.registration import IdInUse
from processors.worker.settings import WorkerSettings
from processors.worker.state_dir import StateUnreadable
from tests.sim import disks
from tests.sim.hardware import Hardware, HardwareAdapter, config
from tests.sim.memory_cluster import Faults, MemoryCluster, partition_of
from tests.sim.memory_log import MemoryLog

TOPICS = Topics("sim")
POOLS = ("lab-a", "lab-b")
CLIENT_RETRY_S = 1.0
RESTART_S = 1.5
STEADY_S = 20.0
"""So long before and after a moment no scheduler is struck, if nobody takes over around it."""
PICKY_SHARE = 0.2
REFUSED = {"fail": "no such port"}
STEPS = (StepPolicy(step="provision", timeout_s=20.0, retries=1, backoff_s=0.5),)


class LoopClock:
    """The clocks of one process in a virtual loop; its wall clock can jump."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name

    def now(self) -> datetime:
        offset_s = self._world.clock_offsets_s.get(self._name, 0.0)
        return self._world.cluster.now() + timedelta(seconds=offset_s)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class ClockSet:
    """When clocks were set, by how much, and of which partitions somebody measured the time."""

    at_s: float
    by_s: float
    measured: frozenset[int]


@dataclass
class World:
    """The lab of one seed."""

    seed: int
    folder: Path
    faults: Faults = field(default_factory=Faults)
    asked: dict[str, Command] = field(default_factory=dict)
    """Commands whose append was acknowledged, by id."""
    lost: set[str] = field(default_factory=set)
    """Commands that were on the log and are not any more."""
    counters: dict[str, int] = field(default_factory=dict)
    clock_offsets_s: dict[str, float] = field(default_factory=dict)
    worker_changes: dict[str, Any] = field(default_factory=dict)
    """Settings of workers that are not the usual ones: for negative controls."""

    def __post_init__(self) -> None:
        self.random = random.Random(f"world/{self.seed}")
        self.snapshot_every = random.Random(f"snapshots/{self.seed}").choice([1, 4, 15, 60])
        self.cluster = MemoryCluster(topics=TOPICS, partitions=2, seed=self.seed)
        self.hardware = Hardware()
        self.schedulers: dict[str, Scheduler] = {}
        self.clock_jumps: list[ClockSet] = []
        self._old_logs: list[MemoryLog] = []
        self.logs: dict[str, MemoryLog] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pools: dict[str, str] = {}
        self._twins: dict[str, str] = {}
        """Of each process that is not the first under its worker's id: that id."""
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._ids = 0

    def new_id(self) -> str:
        """Return the next id."""
        self._ids += 1
        return f"id-{self._ids:06d}"

    def count(self, what: str) -> None:
        """Count a fault."""
        self.counters[what] = self.counters.get(what, 0) + 1

    # The processes.

    def start_scheduler(self, name: str) -> None:
        """Start a scheduler process."""
        log = self._connect(name)
        loop = asyncio.get_running_loop()
        clock = Clock(now=LoopClock(self, name).now, monotonic_s=loop.time)
        meter = NoOpMeterProvider().get_meter("sim")
        scheduler = self.schedulers[name] = Scheduler(
            log, TOPICS, clock, meter, snapshot_every=self.snapshot_every
        )
        self._tasks[name] = loop.create_task(scheduler.run())

    def start_worker(self, name: str, pool: str) -> None:
        """Start a worker process; its state folder is the one it had.

        A twin is a process of its own, with a folder of its own, under the other one's id.
        """
        log = self._connect(name)
        self._pools[name] = pool
        state_dir = self.folder / name
        worker = Worker(
            log,
            TOPICS,
            WorkerSettings(
                worker=self._twins.get(name, name),
                pool=pool,
                state_dir=state_dir,
                version="sim",
                host=name,
                slots=2,
                **self.worker_changes,
            ),
            {"mock": HardwareAdapter(state_dir / "mock", self.hardware)},
            FileStore(self.folder / "artifacts", offload=inline),
            clock=LoopClock(self, name),
            new_id=self.new_id,
            offload=inline,
        )
        self._tasks[name] = asyncio.get_running_loop().create_task(self._work(worker))

    async def _work(self, worker: Worker) -> None:
        while True:
            try:
                await worker.run()
            except (Superseded, IdInUse) as error:
                self.count(error.code)
            except StateUnreadable:
                self.count("no state")  # It cannot begin a life; whoever watches over it tries on.
                await asyncio.sleep(RESTART_S)
            else:
                return

    def start_twin(self, name: str, *, is_copy: bool) -> str:
        """Start a second process under a worker's id; return its name.

        Its folder is fresh, or a copy of the other one's as it is now.
        """
        twin = f"{name}-twin-{len(self._twins)}"
        self._twins[twin] = name
        if is_copy and (self.folder / name).exists():
            shutil.copytree(self.folder / name, self.folder / twin)
        self.start_worker(twin, self._pools[name])
        return twin

    def start_clone(self, name: str) -> str:
        """Start a worker with an id of its own on a copy of another one's folder as it is now."""
        clone = f"{name}-clone-{self.new_id()}"
        if (self.folder / name).exists():
            shutil.copytree(self.folder / name, self.folder / clone)
        self.start_worker(clone, self._pools[name])
        return clone

    def keep_folder(self, name: str) -> Path:
        """Return a copy of a worker's state folder as it is now."""
        kept = self.folder / f"{name}-kept-{self.new_id()}"
        if (self.folder / name).exists():
            shutil.copytree(self.folder / name, kept)
        return kept

    async def lose_folder(self, name: str, pause_s: float, *, kept: Path | None = None) -> None:
        """Kill a worker's process, take its state folder away, and start it again.

        `kept` is a copy of before that is put in its place.
        """

        def swap() -> None:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if kept is not None and kept.exists():
                shutil.copytree(kept, self.folder / name)

        await self.restart(name, pause_s, meanwhile=swap)

    def _connect(self, name: str) -> MemoryLog:
        if name in self.logs:
            self._old_logs.append(self.logs[name])
        log = self.logs[name] = MemoryLog(self.cluster, name)
        log.on_crash = lambda: self._crashed(name)
        return log

    def _crashed(self, name: str) -> None:
        """Start a process that died of a fault again, as whoever watches over it does."""
        self.count("crash")
        pause_s = self.random.choice([0.0, RESTART_S, 14.0])
        if name not in self._restarts:
            loop = asyncio.get_running_loop()
            self._restarts[name] = loop.create_task(self._restart(name, pause_s))

    async def restart(
        self, name: str, pause_s: float, *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Kill a process and start it again after a pause; no one does that twice at a time."""
        if name in self._restarts:
            return
        task = asyncio.get_running_loop().create_task(self._restart(name, pause_s, meanwhile))
        self._restarts[name] = task
        await asyncio.wait({task})
        task.result()

    async def _restart(
        self, name: str, pause_s: float, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        await self.kill(name)
        meanwhile()
        await asyncio.sleep(pause_s)
        del self._restarts[name]
        if name in self._pools:
            self.start_worker(name, self._pools[name])
        else:
            self.start_scheduler(name)

    async def end_twin(self, twin: str) -> None:
        """Kill a twin for good, also one that is just being started again."""
        while twin in self._restarts:
            await self._restarts[twin]
        await self.kill(twin)

    async def kill(self, name: str) -> None:
        """Kill -9: nothing of it takes effect from now on."""
        if not self.logs[name].is_dead:
            self.logs[name].kill()
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.wait({task}, timeout=60)
        if task.done() and not task.cancelled() and task.exception() is not None:
            raise AssertionError(f"{name} had crashed") from task.exception()

    async def stop(self) -> None:
        """End every process, once those that are being started again are there."""
        while self._restarts:
            for task in tuple(self._restarts.values()):
                await task
        for name in list(self._tasks):
            await self.kill(name)

    def set_clock(self, by_s: float) -> None:
        """Set the clock of every machine, brokers' too, forward or back."""
        self.count("clock set")
        self.clock_jumps.append(ClockSet(asyncio.get_running_loop().time(), by_s, self._measured()))
        self.cluster.clock_ahead_s += by_s

    def _measured(self) -> frozenset[int]:
        """Return the partitions of which an owner measures the time now."""
        return frozenset(
            number
            for name, scheduler in self.schedulers.items()
            if not self.logs[name].is_dead
            for number, owner in scheduler.owners.items()
            if owner.ledger is not None and owner.times.is_sure
        )

    def is_steady(self, at_s: float) -> bool:
        """Return True if neither a scheduler nor the cluster was struck near a moment.

        So nobody took over then.
        """
        logs = [log for log in (*self._old_logs, *self.logs.values()) if log.name[0] == "s"]
        return not any(
            begin_s - STEADY_S <= at_s <= end_s + STEADY_S
            for struck in (self.cluster, *logs)
            for begin_s, end_s in struck.unsteady_s
        )

    # The clients.

    async def ask(self, pool: str, command: Command, *, command_id: str = "") -> str:
        """Send a command until the log has acknowledged it, as a client with retries does."""
        command_id = command_id or self.new_id()
        meta = CommandMeta(
            command_id=command_id,
            pool=pool,
            actor="ann",
            roles=("operator",),
            issued_at=self.cluster.now(),
            correlation_id=command_id,
            traceparent="",
            request_hash="h",
        )
        record = Outgoing(
            topic=TOPICS.commands, key=pool.encode(), value=encode(Message(meta, command))
        )
        log = MemoryLog(self.cluster, "client")
        while True:
            try:
                await log.append([record])
            except LogUnavailable:
                await asyncio.sleep(CLIENT_RETRY_S)
            else:
                self.asked[command_id] = command
                return command_id

    async def client(self, number: int, asks: int) -> None:
        """Ask for this and that."""
        mine = random.Random(f"client/{self.seed}/{number}")
        pool = POOLS[number % len(POOLS)]
        for turn in range(asks):
            await asyncio.sleep(mine.uniform(0, 4))
            if mine.random() < PICKY_SHARE:
                # Nobody knows when somebody corrects that bench: so this one waits for a while.
                command = self._execution(f"p{number}-{turn}", "n=b4", 20.0, None)
                await self.ask(pool, command)
            name = f"{number}-{turn}"
            await self.ask(pool, self._command(mine, name, f"{number}-{mine.randrange(asks)}"))

    async def key_for_all_pools(self, number: int) -> None:
        """Send the same request under one key to every pool at once, as the API names it."""
        await asyncio.sleep(random.Random(f"keys/{self.seed}/{number}").uniform(0, 15))
        key, release = f"key-{number}", ReleaseReservation(reservation_id="nobody")
        ids = [(pool, command_id_of("ann", pool, key)) for pool in POOLS]
        await asyncio.gather(*(self.ask(pool, release, command_id=each) for pool, each in ids))

    def _command(self, mine: random.Random, name: str, other: str) -> Command:
        selector = mine.choice(["", "", "n=b1", "n in (b2,b3)", "flaky=yes", "no=such"])
        wait_s = mine.choice([None, None, 20.0])
        kinds: list[Callable[[], Command]] = [
            lambda: self._execution(f"e{name}", selector, wait_s, None),
            lambda: self._execution(f"e{name}", selector, wait_s, None),
            lambda: self._execution(f"e{name}", "", wait_s, f"r{other}"),
            lambda: RequestReservation(
                reservation_id=f"r{name}",
                selectors=(selector,) * mine.choice([1, 1, 2]),
                duration_s=mine.choice([5.0, 25.0]),
                wait_timeout_s=wait_s,
                priority=mine.choice([0, 0, 5]),
            ),
            lambda: ReleaseReservation(reservation_id=f"r{other}"),
            lambda: ExtendReservation(reservation_id=f"r{other}", duration_s=5.0),
            lambda: CancelExecution(execution_id=f"e{other}", reason="enough"),
            lambda: RestoreBench(bench="b3"),
            lambda: QuarantineBench(bench="b1", reason="looks odd"),
        ]
        return mine.choice(kinds)()

    def _execution(
        self, name: str, selector: str, wait_s: float | None, reservation_id: str | None
    ) -> SubmitExecution:
        run = RunSpec(command=("test",), env={}, timeout_s=15.0, junit=(), artifacts=())
        return SubmitExecution(
            execution_id=name,
            selector=selector,
            reservation_id=reservation_id,
            priority=0,
            wait_timeout_s=wait_s,
            retries=2,
            retries_on_failure=1,
            run=run,
        )

    async def furnish(self) -> None:
        """Register benches of different temper in each pool."""
        tempers = {
            "b1": config(run={"delay_s": 1.0}, lines=3, exit_codes=[1, 0]),
            "b2": config(run={"delay_s": 13.0}, provision={"delay_s": 1.0}, lines=2),
            "b3": config(
                run={"delay_s": 2.0, "fail": "cable", "fail_times": 1},
                provision={"fail": "no power", "fail_times": 1},
                teardown={"delay_s": 0.5},
            ),
            "b4": config(run={"delay_s": 1.0}, check=REFUSED),
        }
        for pool in POOLS:
            benches = tuple(
                BenchSpec(
                    name=name,
                    labels={"n": name, "flaky": "yes" if name == "b3" else "no", "pool": pool},
                    adapter="mock",
                    config=temper,
                    steps=STEPS if name == "b3" else (),
                )
                for name, temper in tempers.items()
            )
            await self.ask(pool, ApplyBenches(benches=benches))

    async def apply_picky_bench(self, pool: str, *, is_right: bool) -> None:
        """Describe the bench that adapters refuse as it is, or wrong again."""
        temper = config(run={"delay_s": 1.0}, check={} if is_right else REFUSED)
        labels = {"n": "b4", "flaky": "no", "pool": pool}
        spec = BenchSpec(name="b4", labels=labels, adapter="mock", config=temper)
        await self.ask(pool, ApplyBenches(benches=(spec,)))

    def fill_disk(self, name: str) -> None:
        """Leave a worker no room to write down anything durably."""
        disks.FULL.add(self.folder / name)

    def free_disk(self, name: str) -> None:
        """Make room again."""
        disks.FULL.discard(self.folder / name)

    async def restore_benches(self) -> None:
        """Do what an operator does with benches in quarantine."""
        for pool in POOLS:
            sick: dict[str, None] = {}
            for message in self.journal_of(pool):
                body = message.body
                if message.meta.pool != pool:
                    continue
                if isinstance(body, facts.BenchQuarantined):
                    sick[body.bench] = None
                elif isinstance(body, facts.BenchRestored):
                    sick.pop(body.bench, None)
            for bench in sick:
                if self.hardware.deaf_s and f"{pool}/{bench}" in self.hardware.driven_by:
                    continue  # Whoever looks at it sees that a test still drives it.
                self.count("restored")
                await self.ask(pool, RestoreBench(bench=bench))

    # What is on the log.

    def journal(self, number: int) -> list[EventMessage]:
        """Return the events of one partition."""
        return [decode_event(r.value) for r in self.cluster.records(TOPICS.events, number)]

    def journal_of(self, pool: str) -> list[EventMessage]:
        """Return the events of one pool's partition."""
        return self.journal(partition_of(pool.encode(), self.cluster.partitions))
