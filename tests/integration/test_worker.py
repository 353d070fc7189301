"""A whole worker against a log in memory, with the scheduler played by hand and time virtual."""

import asyncio
import hashlib
import json
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import (
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
from events.codec import decode, encode
from events.dlq import DeadLetter
from events.errors import LogUnavailable
from events.log import Outgoing, Partition, Position, Record
from events.logs import LogBatch
from events.message import Message
from events.reports import (
    AttemptEnded,
    BenchTornDown,
    ResultsCollected,
    StepStarted,
    WorkerDraining,
    WorkerHeartbeat,
    WorkerStarted,
    WorkerStopped,
)
from events.shared import BenchSpec, RunSpec, TaskMeta
from events.tasks import RunAttempt, StopAttempt, TearDownBench, WorkerSuperseded
from events.topics import Topics
from processors.artifacts.files import FileStore, inline
from processors.worker.settings import WorkerSettings
from processors.worker.worker import Superseded, Worker

TOPICS = Topics("t")
PARTITIONS = 4
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
START = datetime(2026, 1, 1, tzinfo=UTC)
JUNIT = b"""<testsuite name="s"><testcase classname="c" name="ok" time="0.1"/>
<testcase classname="c" name="bad"><failure message="1 != 2">boom</failure></testcase></testsuite>"""
JUNIT_GOOD = b'<testsuite name="s"><testcase name="ok"/></testsuite>'


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
        for topic in (TOPICS.tasks, TOPICS.reports, TOPICS.logs, TOPICS.dlq):
            for number in range(PARTITIONS):
                self.records[Partition(topic, number)] = []
        self.is_away = False
        self.is_losing_answers = False

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
        await asyncio.sleep(0.001)
        self.check()
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
        if self.is_losing_answers:
            raise LogUnavailable("the answer was lost")
        return positions

    def read(self, topic: str) -> list[Any]:
        return [
            decode(record.value)
            for partition in sorted(self.records)
            if partition.topic == topic
            for record in self.records[partition]
        ]


class ScriptedAdapter:
    """Does what the bench's config says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.alive: set[str] = set()
        self.torn_down: list[str] = []
        self.envs: list[Mapping[str, str]] = []
        self.at_start: list[Handle] = []
        self.handles_known: list[bool] = []
        self.is_handle_known: Callable[[str], bool] = lambda _: True

    async def check(self, bench: Bench) -> None:
        return

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        return Handle(f'{{"id": "{attempt_id.execution_id}/{attempt_id.number}"}}')

    async def _do(self, call: str, config: Mapping[str, Any]) -> None:
        self.calls.append(call)
        if config.get("hang") == call:
            await asyncio.sleep(10_000)
        if config.get("break") == call:
            raise AdapterError(f"{call} broke", retriable=bool(config.get("retriable", True)))
        if config.get("bug") == call:
            raise KeyError(call)

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

    def __init__(self, root: Path, **settings: Any) -> None:
        self.log = FakeLog()
        self.adapter = ScriptedAdapter()
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
            {"scripted": self.adapter},
            self.store,
            clock=Clock(),
            new_id=self._new_id,
        )
        return self.worker

    def reports(self, *kinds: type) -> list[Any]:
        bodies = [message.body for message in self.log.read(TOPICS.reports)]
        wanted = kinds or (object,)
        return [each for each in bodies if isinstance(each, wanted) and (kinds or not _beat(each))]

    async def until(self, condition: Callable[[], object], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.05)

    async def registered(self) -> None:
        await self.until(lambda: self.worker.is_registered)

    async def tell(self, task: Any, epoch: int | None = None, worker: str = "w-1") -> None:
        meta = TaskMeta(
            task_id=self._new_id(),
            pool="lab",
            worker=worker,
            epoch=self.worker.epoch if epoch is None else epoch,
            issued_at=START,
            causation_id="",
            correlation_id="corr",
            traceparent=TRACEPARENT,
        )
        value = encode(Message(meta, task))
        await self.log.append([Outgoing(topic=TOPICS.tasks, key=worker.encode(), value=value)])

    async def ended(self, execution_id: str = "exe-1") -> AttemptEnded:
        def found() -> list[AttemptEnded]:
            return [r for r in self.reports(AttemptEnded) if r.execution_id == execution_id]

        await self.until(found)
        assert len(found()) == 1
        return found()[0]


def _beat(report: object) -> bool:
    return isinstance(report, WorkerHeartbeat)


def attempt(execution_id: str = "exe-1", bench: str = "b-1", **config: Any) -> RunAttempt:
    run_limits = {
        name: config.pop(name) for name in ("timeout_s", "idle_timeout_s") if name in config
    }
    return RunAttempt(
        execution_id=execution_id,
        attempt=1,
        fence=7,
        bench=BenchSpec(
            name=bench,
            labels={"site": "muc", "board": "rpi4"},
            adapter="scripted",
            config=json.dumps(config),
        ),
        run=RunSpec(
            command=("true",),
            env={"API_TOKEN": "hunter2-secret", "TEO_FENCE": "999", "MODE": "fast"},
            junit=("*.xml",),
            artifacts=("out/*",),
            **{"timeout_s": 60.0, **run_limits},
        ),
    )


def stop(code: str = "cancelled", fence: int = 7) -> StopAttempt:
    return StopAttempt(
        execution_id="exe-1", attempt=1, fence=fence, code=code, reason="asked by anna"
    )


def in_lab(root: Path, scene: Callable[[Lab], Awaitable[None]], **settings: Any) -> Lab:
    """Play `scene` with a worker that runs; stop it afterwards."""
    labs: list[Lab] = []

    async def whole() -> None:
        lab = Lab(root, **settings)
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


STEPS = [f"StepStarted:{step}" for step in ("provision", "run", "collect")]


def test_a_whole_attempt_is_reported_in_order(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        def known(handle: str) -> bool:
            return any(report.handle == handle for report in lab.reports(StepStarted))

        lab.adapter.is_handle_known = known
        task = attempt(
            lines=["one", "token hunter2-secret!", "thr\xe9e"], junit=JUNIT_GOOD.decode(), run_s=5
        )
        await lab.tell(task)
        await lab.tell(task)  # A repeat is no second run.
        await lab.until(lambda: lab.worker.running())
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.exit_code) == ("passed", "passed", 0)
        assert (ended.fence, ended.totals.passed, ended.teardown_error) == (7, 1, "")
        kinds = {each.path: each for each in ended.artifacts}
        assert sorted((p, a.kind) for p, a in kinds.items()) == [
            ("log.txt", "log"), ("out/a.bin", "artifact"), ("r.xml", "junit"),
        ]  # fmt: skip
        whole_log = b"".join([chunk async for chunk in lab.store.open(kinds["log.txt"].uri)])
        assert whole_log.decode() == "one\ntoken ***!\nthr\xe9e\nto stderr\n"
        assert hashlib.sha256(whole_log).hexdigest() == kinds["log.txt"].sha256
        await lab.until(lambda: not lab.worker.running())

    lab = in_lab(tmp_path, scene)
    expected = ["WorkerStarted", *STEPS, "ResultsCollected", "StepStarted:teardown", "AttemptEnded"]
    assert names(lab.reports()) == [*expected, "WorkerDraining", "WorkerStopped"]
    assert lab.adapter.calls == ["provision", "run", "collect", "teardown"]
    assert lab.adapter.handles_known == [True], "the log knew the handle before anything existed"
    metas = [message.meta for message in lab.log.read(TOPICS.reports)]
    assert {(meta.worker, meta.epoch, meta.pool) for meta in metas} == {("w-1", 1, "lab")}
    ended_meta = next(
        m.meta for m in lab.log.read(TOPICS.reports) if isinstance(m.body, AttemptEnded)
    )
    assert ended_meta.correlation_id == "corr"
    assert ended_meta.traceparent[3:35] == TRACEPARENT[3:35]
    batches = [each for each in lab.log.read(TOPICS.logs) if isinstance(each, LogBatch)]
    lines = [line for batch in batches for line in batch.lines]
    assert lines == ["one", "token ***!", "thr\xe9e", "to stderr"]
    assert (batches[0].first_line, batches[0].stderr_lines) == (1, (3,))
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]


def test_the_test_finds_its_environment(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        await lab.ended()

    env = in_lab(tmp_path, scene).adapter.envs[0]
    assert env["TEO_EXECUTION_ID"] == "exe-1"
    assert env["TEO_FENCE"] == "7", "a user cannot override ours"
    assert env["TEO_BENCH_LABELS"] == "board=rpi4,site=muc"
    assert (env["TEO_ATTEMPT"], env["TEO_BENCH"], env["MODE"]) == ("1", "b-1", "fast")
    assert env["TRACEPARENT"].split("-")[1] == TRACEPARENT.split("-")[1]
    assert datetime.fromisoformat(env["TEO_DEADLINE"]).tzinfo is not None


@pytest.mark.parametrize(
    ("config", "verdict", "code", "is_retriable", "calls"),
    [
        ({"exit": 3}, "failed", "exit_code", False, "provision run collect teardown"),
        ({"exit": None, "signal": 11}, "failed", "signal", False, "provision run collect teardown"),
        ({"junit": JUNIT.decode()}, "failed", "cases_failed", False, "provision run collect teardown"),
        ({"junit": "<not xml"}, "passed", "passed", False, "provision run collect teardown"),
        ({"cannot_start": True}, "failed", "cannot_start", False, "provision collect teardown"),
        ({"break": "provision"}, "error", "provision_failed", True, "provision teardown"),
        ({"break": "provision", "retriable": False}, "error", "provision_failed", False, "provision teardown"),
        ({"bug": "run"}, "error", "run_failed", True, "provision run collect teardown"),
        ({"break": "collect"}, "error", "collect_failed", True, "provision run collect teardown"),
        ({"break": "collect", "exit": 1}, "failed", "exit_code", False, "provision run collect teardown"),
        ({"hang": "provision"}, "error", "provision_timeout", True, "provision teardown"),
        ({"hang": "collect"}, "error", "collect_timeout", True, "provision run collect teardown"),
        ({"hang": "run", "timeout_s": 5.0}, "timed_out", "timeout", False, "provision run collect teardown"),
        ({"run_s": 50, "timeout_s": 5.0}, "timed_out", "timeout", False, "provision run collect teardown"),
        ({"run_s": 50, "idle_timeout_s": 2.0}, "timed_out", "idle_timeout", False, "provision run collect teardown"),
    ],
)  # fmt: skip
def test_how_it_ends(
    tmp_path: Path, config: dict[str, Any], verdict: str, code: str, is_retriable: bool, calls: str
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**config))
        await lab.until(lambda: lab.reports(AttemptEnded), limit_s=500)
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.is_retriable) == (verdict, code, is_retriable)
        assert ended.teardown_error == ""
        assert lab.adapter.calls == calls.split()
        if config.get("junit") == "<not xml":
            assert "r.xml" in ended.reason
        if config.get("junit", "").startswith("<testsuite"):
            parts = lab.reports(ResultsCollected)
            assert [case.status for case in parts[0].cases] == ["passed", "failed"]
            assert parts[0].cases[1].details == "boom"

    in_lab(tmp_path, scene)


def test_a_refused_file_is_named(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(climb=True))
        ended = await lab.ended()
        assert ended.verdict == "passed"
        assert "'../x' not kept: it is outside the workspace" in ended.reason

    in_lab(tmp_path, scene)


@pytest.mark.parametrize(
    "config", [{"run_s": 50}, {"hang": "provision"}, {"run_s": 50, "stubborn": True}]
)
@pytest.mark.parametrize("fence", [7, 0])
def test_cancel_ends_it_and_cleans_up(tmp_path: Path, config: dict[str, Any], fence: int) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**config))
        await lab.until(lambda: lab.adapter.calls)
        await lab.tell(stop(fence=6))
        await asyncio.sleep(1)
        assert not lab.reports(AttemptEnded), "a stop of another grant is none of ours"
        await lab.tell(stop(fence=fence))
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.reason) == (
            "cancelled",
            "cancelled",
            "asked by anna",
        )
        assert ended.exit_code is None
        assert lab.adapter.calls[-1] == "teardown"
        assert ("collect" in lab.adapter.calls) == ("run" in lab.adapter.calls)

    in_lab(tmp_path, scene)


def test_a_result_stands_when_the_cancel_comes_too_late(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(hang="collect"))
        await lab.until(lambda: "collect" in lab.adapter.calls)
        await lab.tell(stop())
        await lab.until(lambda: lab.reports(AttemptEnded), limit_s=500)
        assert lab.reports(AttemptEnded)[0].code == "collect_timeout"

    in_lab(tmp_path, scene)


def test_teardown_that_fails_is_said(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.adapter.handle_for = lambda *_: Handle('{"id": "broken"}')  # type: ignore[method-assign]
        await lab.tell(attempt())
        ended = await lab.ended()
        assert (ended.verdict, ended.teardown_error) == ("passed", "AdapterError: still powered")

    in_lab(tmp_path, scene)


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_cut_off_it_frees_the_hardware_before_the_scheduler_gives_it_away(
    tmp_path: Path, is_stubborn: bool
) -> None:
    async def scene(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        await lab.tell(attempt(run_s=500, timeout_s=900.0, stubborn=is_stubborn))
        await lab.until(lambda: lab.adapter.alive)
        await asyncio.sleep(3)
        heard_at = loop.time()
        lab.log.is_away = True
        await lab.until(lambda: lab.adapter.torn_down)
        assert loop.time() - heard_at < lab.settings.scheduler_deadline_s
        assert not lab.adapter.alive
        lab.log.is_away = False
        await lab.until(lambda: lab.worker.epoch > 1 and lab.worker.is_registered)
        assert not lab.worker.running()
        assert not lab.reports(AttemptEnded), "nobody would believe the old life"
        lab.adapter.calls.clear()
        await lab.tell(attempt("exe-2"), epoch=1)
        await lab.tell(attempt("exe-3"))
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
    messages = [m for m in lab.log.read(TOPICS.reports) if not _beat(m.body)]
    first: dict[str, Any] = {}
    for message in messages:
        first.setdefault(message.meta.report_id, message.body)
    assert len(first) < len(messages), "something did come twice"
    expected = ["WorkerStarted", *STEPS, "StepStarted:teardown", "AttemptEnded"]
    assert names(list(first.values()))[: len(expected)] == expected


def test_superseded_by_a_newer_life_it_stops_and_says_why(tmp_path: Path) -> None:
    async def scene() -> None:
        lab = Lab(tmp_path)
        with pytest.raises(Superseded, match=r"epoch 9.*another process"):
            async with asyncio.timeout(60):
                running = asyncio.create_task(lab.worker.run())
                await lab.registered()
                await lab.tell(attempt(run_s=500))
                await lab.until(lambda: lab.adapter.alive)
                await lab.tell(WorkerSuperseded(newest_epoch=9))
                await running
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
        await lab.tell(WorkerSuperseded(newest_epoch=1))
        await lab.until(lambda: lab.worker.epoch == 2 and lab.worker.is_registered)
        assert not lab.adapter.alive
        assert len(lab.adapter.torn_down) == 1
        await lab.tell(WorkerSuperseded(newest_epoch=1))  # Late: of the life before.
        await lab.tell(attempt("exe-2"))
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
        before = len(lab.reports(WorkerStarted))
        again = asyncio.create_task(lab.make().run())
        await lab.until(lambda: len(lab.reports(WorkerStarted)) > before)
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
        bad = attempt("exe-4")
        spec = BenchSpec(name="b", labels={}, adapter="scripted", config="[]")
        await lab.tell(
            RunAttempt(execution_id="exe-4", attempt=1, fence=1, bench=spec, run=bad.run)
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
