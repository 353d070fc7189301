"""A worker in a bottle: a log in memory, a scripted adapter, virtual time. Decides nothing."""

import asyncio
import json
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters.contract import (
    Adapter,
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Collected,
    Exit,
    Found,
    Handle,
    Lease,
    Line,
    OnLines,
    Refused,
)
from events.append_time import AppendTime
from events.codec import decode, encode
from events.errors import LogUnavailable
from events.log import Outgoing, Partition, Position, Record
from events.message import Message
from events.reports import AttemptEnded, StepStarted, WorkerHeartbeat
from events.shared import BenchSpec, ReportMeta, RunSpec, TaskMeta
from events.tasks import LifeAccepted, RunAttempt, StopAttempt
from events.topics import Topics
from processors.artifacts.files import FileStore, inline
from processors.worker.agent import Worker
from processors.worker.settings import WorkerSettings

TOPICS = Topics("t")
PARTITIONS = 4
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
START = datetime(2026, 1, 1, tzinfo=UTC)


class _InstantSelector(selectors.DefaultSelector):
    """Never waits: it moves the loop's clock instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: nothing is due and nothing is ready")
        if not ready:
            self.loop.now_s += timeout or 0.0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes at once."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        selector = _InstantSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run `scene` in virtual time, with an hour as the limit of it."""

    async def limited() -> None:
        async with asyncio.timeout(3600):
            await scene()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(limited())


class Clock:
    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class FakeReader:
    def __init__(self, log: "FakeLog", at: dict[Partition, int]) -> None:
        self._log, self._at = log, at

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        self._log.check()
        found: list[Record] = []
        for partition in sorted(self._at):
            found += self._log.records[partition][self._at[partition] :][:records_max]
            self._at[partition] = max(self._at[partition], found[-1].offset + 1 if found else 0)
        if not found:
            await asyncio.sleep(min(wait_s, 0.05))
        return found

    async def position(self, partition: Partition) -> int:
        return self._at[partition]

    async def close(self) -> None:
        self._at = {}


class FakeLog:
    """Just the part of `Log` a worker uses; `is_away` cuts it off."""

    def __init__(self) -> None:
        self.records: dict[Partition, list[Record]] = {}
        self._decoded: dict[bytes | None, Any] = {}
        for topic in (TOPICS.tasks, TOPICS.reports, TOPICS.logs, TOPICS.dlq):
            for number in range(PARTITIONS):
                self.records[Partition(topic, number)] = []
        self.time = AppendTime(lambda: asyncio.get_running_loop().time())
        self.is_away = False
        self.is_deaf = False
        """Takes nothing, but can still be read."""
        self.is_losing_answers = False
        self.latency_s = 0.001
        self.is_accepting = True
        """A life that asks is accepted, with the epoch it asks for."""

    def check(self) -> None:
        if self.is_away:
            raise LogUnavailable("cut off")

    async def partitions(self, topic: str) -> int:
        self.check()
        return PARTITIONS

    def partition_for(self, key: bytes, partitions: int) -> int:
        return sum(key) % partitions

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.check()
        return {each: len(self.records[each]) for each in partitions}

    async def open_reader(self, starts: Mapping[Partition, int]) -> FakeReader:
        self.check()
        return FakeReader(self, dict(starts))

    async def append(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        await asyncio.sleep(self.latency_s)
        self.check()
        if self.is_deaf:
            raise LogUnavailable("nothing is taken")
        positions = []
        for each in records:
            assert each.key is not None
            partition = Partition(each.topic, self.partition_for(each.key, PARTITIONS))
            kept = self.records[partition]
            record = Record(
                topic=each.topic,
                partition=partition.number,
                offset=len(kept),
                timestamp=START,
                key=each.key,
                value=each.value,
                headers=dict(each.headers),
            )
            kept.append(record)
            positions.append(Position(partition.number, record.offset))
            if self.is_accepting and each.headers.get("ce_type") == b"WorkerStarted":
                self.accept(decode(each.value).meta)
        if self.is_losing_answers:
            raise LogUnavailable("the answer was lost")
        return positions

    def accept(self, asked: ReportMeta) -> None:
        """Answer a life that asks."""
        self.put_task(
            LifeAccepted(),
            worker=asked.worker,
            epoch=asked.epoch,
            life=asked.life,
            task_id=f"accepted-{asked.report_id}",
        )

    def put_task(self, task: Any, *, worker: str, epoch: int, life: str, task_id: str) -> None:
        """Put a task where its worker reads it."""
        meta = TaskMeta(
            task_id=task_id,
            pool="lab",
            worker=worker,
            epoch=epoch,
            issued_at=START,
            causation_id="",
            correlation_id="corr",
            traceparent=TRACEPARENT,
            life=life,
        )
        partition = Partition(TOPICS.tasks, self.partition_for(worker.encode(), PARTITIONS))
        kept = self.records[partition]
        kept.append(
            Record(
                topic=TOPICS.tasks,
                partition=partition.number,
                offset=len(kept),
                timestamp=START,
                key=worker.encode(),
                value=encode(Message(meta, task)),
                headers={},
            )
        )

    def read(self, topic: str) -> list[Any]:
        """Return what is on a topic; each record is decoded once, however often a test looks."""
        values = [
            record.value
            for partition in sorted(self.records)
            if partition.topic == topic
            for record in self.records[partition]
        ]
        self._decoded.update(
            {value: decode(value) for value in values if value not in self._decoded}
        )
        return [self._decoded[value] for value in values]


class ScriptedAdapter:
    """Does what the bench's config says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.alive: set[str] = set()
        self.torn_down: list[str] = []
        self.envs: list[Mapping[str, str]] = []
        self.at_start: list[Handle] = []
        self.handles_known: list[bool] = []
        self.mended: set[str] = set()
        """Benches that are not refused any more, whatever their config says."""
        self.is_handle_known: Callable[[str], bool] = lambda _: True

    async def check(self, bench: Bench) -> None:
        self.calls.append(f"check {bench.name}")
        if bench.config.get("hang") == "check":
            await asyncio.sleep(10_000)
        if bench.config.get("bug") == "check":
            raise KeyError("check")
        if "refuse" in bench.config and bench.name not in self.mended:
            raise AdapterError(str(bench.config["refuse"]), code="invalid_config")

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        return Handle(f'{{"id": "{attempt_id.execution_id}/{attempt_id.number}"}}')

    async def _do(self, call: str, config: Mapping[str, Any]) -> None:
        self.calls.append(call)
        if config.get("hang") == call:
            await asyncio.sleep(10_000)
        if config.get("break") == call and self.calls.count(call) <= config.get("break_times", 99):
            raise AdapterError(
                f"{call} broke",
                code=config.get("code", "adapter_error"),
                retriable=bool(config.get("retriable", True)),
                fault=config.get("fault", "bench"),
            )
        if config.get("bug") == call:
            raise KeyError(call)
        if config.get("out_of") == call:
            raise OSError(config["errno"], "the machine has none left")

    async def provision(self, attempt: Attempt) -> Handle:
        handle = self.handle_for(attempt.id, attempt.bench)
        self.handles_known.append(self.is_handle_known(handle))
        await self._do("provision", attempt.bench.config)
        return handle

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        config: Mapping[str, Any] = attempt.bench.config
        self.envs.append(attempt.env)
        if config.get("cannot_start"):
            raise CannotStart("no such program: nope")
        self.alive.add(handle)
        try:
            await on_lines([Line("stdout", str(text)) for text in config.get("lines", [])])
            await on_lines([Line("stderr", "to stderr")])
            await self._do("run", config)
            ended = await self._wait(attempt, lease, float(config.get("run_s", 0.0)))
        except asyncio.CancelledError:
            if config.get("stubborn"):
                await asyncio.sleep(10_000)
            await on_lines([Line("stdout", "last words")])
            raise
        finally:
            self.alive.discard(handle)
        if ended == "exited":
            return Exit(ended=ended, code=config.get("exit", 0), signal=config.get("signal"))
        return Exit(ended=ended, signal=9)

    async def _wait(self, attempt: Attempt, lease: Lease, run_s: float) -> Any:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            now = loop.time()
            if now >= begun + run_s:
                return "exited"
            if now >= begun + attempt.timeout_s:
                return "timeout"
            if attempt.idle_timeout_s is not None and now >= begun + attempt.idle_timeout_s:
                return "idle_timeout"
            if now >= lease.until:
                return "lease_expired"
            await asyncio.sleep(0.05)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        config: Mapping[str, Any] = attempt.bench.config
        await self._do("collect", config)
        found = [Found(kind="artifact", path="out/a.bin", size_bytes=3, data=b"abc")]
        if "junit" in config:
            data = str(config["junit"]).encode()
            found.append(Found(kind="junit", path="r.xml", size_bytes=len(data), data=data))
        refused = (Refused(path="../x", code="outside", reason="it is outside the workspace"),)
        return Collected(found=tuple(found), refused=refused if config.get("climb") else ())

    async def teardown(self, handle: Handle) -> None:
        self.calls.append("teardown")
        if '"broken"' in handle:
            raise AdapterError("still powered")
        self.alive.discard(handle)
        self.torn_down.append(handle)

    async def leftovers(self) -> Sequence[Handle]:
        return tuple(self.at_start)


class Lab:
    """A log, an adapter, and a worker that can be begun again; plays the scheduler."""

    def __init__(self, root: Path, adapter: ScriptedAdapter | None = None, **settings: Any) -> None:
        self.log = FakeLog()
        self.adapter = adapter or ScriptedAdapter()
        self.adapters: dict[str, Adapter] = {"scripted": self.adapter}
        self.store = FileStore(root / "artifacts", offload=inline)
        self.settings = WorkerSettings(
            worker="w-1", pool="lab", state_dir=root / "state", version="1", **settings
        )
        self._ids = 0
        self.worker = self.make()

    def _new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    def make(self) -> Worker:
        self.worker = Worker(
            self.log,  # type: ignore[arg-type]
            TOPICS,
            self.settings,
            self.adapters,
            self.store,
            clock=Clock(),
            offload=inline,
            new_id=self._new_id,
        )
        return self.worker

    def reports(self, *kinds: type) -> list[Any]:
        bodies = [message.body for message in self.log.read(TOPICS.reports)]
        wanted = kinds or (object,)
        return [
            each for each in bodies if isinstance(each, wanted) and (kinds or not is_beat(each))
        ]

    async def until(self, condition: Callable[[], object], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - polled in virtual time.
                await asyncio.sleep(0.05)

    async def registered(self) -> None:
        await self.until(lambda: self.worker.is_registered)

    async def tell(self, task: Any, *, life: str | None = None, worker: str = "w-1") -> None:
        """Give the worker's life a task, or another life; the answer may be lost, as any."""
        await asyncio.sleep(self.log.latency_s)
        self.log.check()
        self.log.put_task(
            task,
            worker=worker,
            epoch=self.worker.epoch,
            life=self.worker.life if life is None else life,
            task_id=self._new_id(),
        )
        if self.log.is_losing_answers:
            raise LogUnavailable("the answer was lost")

    async def ended(self, execution_id: str = "exe-1") -> AttemptEnded:
        def found() -> list[AttemptEnded]:
            return [r for r in self.reports(AttemptEnded) if r.execution_id == execution_id]

        await self.until(found)
        assert len(found()) == 1
        return found()[0]


def is_beat(report: object) -> bool:
    return isinstance(report, WorkerHeartbeat)


def stop(code: str = "cancelled", fence: int = 7) -> StopAttempt:
    return StopAttempt(
        execution_id="exe-1", attempt=1, fence=fence, code=code, reason="asked by anna"
    )


def attempt(
    execution_id: str = "exe-1", bench: str = "b-1", *, fence: int = 7, **config: Any
) -> RunAttempt:
    run_limits = {
        name: config.pop(name) for name in ("timeout_s", "idle_timeout_s") if name in config
    }
    steps = config.pop("steps", ())
    return RunAttempt(
        execution_id=execution_id,
        attempt=1,
        fence=fence,
        bench=BenchSpec(
            name=bench,
            labels={"site": "muc", "board": "rpi4"},
            adapter="scripted",
            config=json.dumps(config),
            steps=steps,
        ),
        run=RunSpec(
            command=("true",),
            env={"API_TOKEN": "hunter2-secret", "TEO_FENCE": "999", "MODE": "fast"},
            junit=("*.xml",) if "junit" in config else (),
            artifacts=("out/*",),
            **{"timeout_s": 60.0, **run_limits},
        ),
    )


def in_lab(
    root: Path,
    scene: Callable[[Lab], Awaitable[None]],
    adapter: ScriptedAdapter | None = None,
    **settings: Any,
) -> Lab:
    """Play `scene` with a worker that runs; stop it afterwards."""
    labs: list[Lab] = []

    async def whole() -> None:
        lab = Lab(root, adapter, **settings)
        labs.append(lab)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lab.worker.run())
            await lab.registered()
            await scene(lab)
            if not running.done():
                lab.worker.stop()

    play(whole)
    return labs[0]


def names(reports: Sequence[Any]) -> list[str]:
    return [
        f"{type(r).__name__}:{r.step}" if isinstance(r, StepStarted) else type(r).__name__
        for r in reports
    ]
