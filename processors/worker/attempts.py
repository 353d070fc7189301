"""The attempts and teardowns of one life: noted at once, begun once the benches may be touched.

Never decides when that is, and never waits for the log: whoever reads tasks must not stand still.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from adapters.contract import Adapter
from events.reports import AttemptUnknown
from events.shared import AttemptRef, TaskMeta
from events.tasks import RunAttempt, StopAttempt, TearDownBench
from processors.worker import fitness
from processors.worker.attempt import AttemptRunner
from processors.worker.compensation import tear_down_bench
from processors.worker.leave import Leave
from processors.worker.parts import Parts
from processors.worker.reporting import not_begun
from processors.worker.verdict import Cut

log = structlog.get_logger()
Key = tuple[str, int]
FENCE_FELL = "fence_fell"


class Attempts:
    """What a life runs. Its tasks are in `group`, which is the life's."""

    def __init__(
        self,
        *,
        parts: Parts,
        adapters: Mapping[str, Adapter],
        leave: Leave,
        group: asyncio.TaskGroup,
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._adapters = adapters
        self._leave = leave
        self._group = group
        self._runners: dict[Key, AttemptRunner] = {}
        self._not_begun: dict[Key, AttemptRef] = {}
        """Attempts that are refused, until the log has that."""
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._teardowns: dict[tuple[str, int, int], asyncio.Task[None]] = {}
        self._seen: dict[Key, None] = {}
        self._teardown_slots = asyncio.Semaphore(self._settings.teardowns_max)
        self._may_begin = asyncio.Event()

    def running(self) -> tuple[AttemptRef, ...]:
        """Return the attempts whose end is not yet on the log, in a fixed order."""
        refs = {key: runner.ref for key, runner in self._runners.items()} | self._not_begun
        return tuple(refs[key] for key in sorted(refs))

    @property
    def going(self) -> Sequence[asyncio.Task[None]]:
        """What is done about attempts, teardowns aside."""
        return [*self._tasks.values()]

    @property
    def work(self) -> Sequence[asyncio.Task[None]]:
        """All that is done."""
        return [*self._tasks.values(), *self._teardowns.values()]

    def is_on(self, bench: str) -> bool:
        """Return True if an attempt is on the bench, or about to be."""
        return any(runner.bench == bench for runner in self._runners.values())

    def begin(self) -> None:
        """Let what is noted begin: benches may be touched from now on."""
        self._may_begin.set()

    async def begun(self) -> None:
        """Return once benches may be touched."""
        await self._may_begin.wait()

    def renew(self, until: float) -> None:
        """Let what runs go on until then."""
        for key in sorted(self._runners):
            self._runners[key].lease.renew(until)

    def cut(self, cut: Cut) -> None:
        """End what runs."""
        for key in sorted(self._runners):
            self._runners[key].cut(cut)

    def report_slots(self) -> None:
        """Tell how many slots are in use."""
        self._parts.telemetry.slots(used=len(self._runners), total=self._settings.slots)

    def run(self, task: RunAttempt, meta: TaskMeta, *, lease_until: float) -> None:
        """Take an attempt; from now on `running` names it, until the log has its end."""
        key = (task.execution_id, task.attempt)
        if key in self._seen:
            return  # A repeat.
        self._saw(key)
        adapter = self._adapters.get(task.bench.adapter)
        refusal = self._refusal(task)
        if adapter is None or refusal is not None:
            code, reason = refusal or ("no_such_adapter", f"no adapter {task.bench.adapter!r} here")
            self._refuse(task, meta, code, reason)
            return
        runner = AttemptRunner(
            task, meta, adapter=adapter, parts=self._parts, lease_until=lease_until
        )
        self._runners[key] = runner
        self._do(key, lambda: self._attend(key, runner, task, meta), name="attempt")
        self.report_slots()

    def stop(self, task: StopAttempt, meta: TaskMeta) -> None:
        """Cut the attempt. Fence 0 means: whichever it is, the scheduler knows it no more.

        An attempt that is not here is answered: the scheduler believes that it is. One that has
        just ended was said to have before.
        """
        key = (task.execution_id, task.attempt)
        runner = self._runners.get(key)
        if runner is not None and task.fence in (0, runner.fence):
            runner.cut(Cut(verdict="cancelled", code=task.code, reason=task.reason))
        elif key not in self._tasks:
            self._saw(key)  # It is over now, whatever might still come.
            self._do(key, lambda: self._say_unknown(task, meta), name="unknown")

    def tear_down(self, task: TearDownBench, meta: TaskMeta) -> None:
        """Tear down what an attempt left. Twice is once."""
        key = (task.execution_id, task.attempt, task.fence)
        if key not in self._teardowns:
            work = self._compensate(key, task, meta)
            self._teardowns[key] = self._group.create_task(work, name=f"teardown {key}")

    def _saw(self, key: Key) -> None:
        self._seen[key] = None
        if len(self._seen) > self._settings.seen_max:
            del self._seen[next(iter(self._seen))]

    def _do(self, key: Key, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        async def done() -> None:
            try:
                await work()
            finally:
                self._runners.pop(key, None)
                self._not_begun.pop(key, None)
                self._tasks.pop(key, None)
                self.report_slots()

        self._tasks[key] = self._group.create_task(done(), name=f"{name} {key}")

    async def _attend(
        self, key: Key, runner: AttemptRunner, task: RunAttempt, meta: TaskMeta
    ) -> None:
        await self._may_begin.wait()
        if why := self._why_not(task):
            del self._runners[key]
            self._not_begun[key] = runner.ref
            await self._stop_for_good(task, meta, why)
        else:
            await runner.go()

    def _why_not(self, task: RunAttempt) -> str:
        """Return why the fence of an attempt forbids to begin it."""
        bench = (self._parts.topics.prefix, self._settings.pool, task.bench.name)
        return self._parts.state.fences.why_not(bench, task.fence)

    async def _stop_for_good(self, task: RunAttempt, meta: TaskMeta, why: str) -> None:
        """Refuse an attempt with a fence that fell, and leave: the log is not to be believed."""
        log.critical(
            "worker.fence_fell",
            bench=task.bench.name,
            fence=task.fence,
            execution_id=task.execution_id,
            reason=why,
        )
        self._parts.state.fences.stop(why)
        self._leave.ask(why, hurry=True)
        await self._say_not_begun(task, meta, FENCE_FELL, why)

    def _refusal(self, task: RunAttempt) -> tuple[str, str] | None:
        """Return code and reason if the attempt cannot be taken; None if it can."""
        active = [self._runners[key] for key in sorted(self._runners)]
        active = [runner for runner in active if not runner.is_over]
        if self._leave.is_over:
            return "worker_draining", "the worker is about to leave"
        if self._parts.fitness.reason:
            return fitness.CODE, self._parts.fitness.reason
        if any(runner.bench == task.bench.name for runner in active):
            return "bench_busy", f"bench {task.bench.name} still has an attempt on this worker"
        if len(active) >= self._settings.slots:
            return "no_slot", f"all {self._settings.slots} slots of this worker are in use"
        return None

    def _refuse(self, task: RunAttempt, meta: TaskMeta, code: str, reason: str) -> None:
        """Answer an attempt that is not begun: the bench was never touched."""
        log.warning("worker.attempt_refused", execution_id=task.execution_id, code=code)
        self._parts.telemetry.task_refused(code)
        ref = AttemptRef(execution_id=task.execution_id, attempt=task.attempt)
        key = (ref.execution_id, ref.attempt)
        self._not_begun[key] = ref
        self._do(key, lambda: self._say_not_begun(task, meta, code, reason), name="refuse")

    async def _say_not_begun(
        self, task: RunAttempt, meta: TaskMeta, code: str, reason: str
    ) -> None:
        """Say so; return once the log has it. Whoever gives attempts to an unfit worker is told."""
        if code == fitness.CODE:
            await self._parts.fitness.failed(reason)
        ended = not_begun(task, code, f"{reason}: worker {self._settings.worker} did not begin it")
        outbox = self._parts.outbox
        number = await outbox.put(
            ended, correlation_id=meta.correlation_id, traceparent=meta.traceparent
        )
        await outbox.taken(number)

    async def _say_unknown(self, task: StopAttempt, meta: TaskMeta) -> None:
        log.warning("worker.attempt_unknown", execution_id=task.execution_id, attempt=task.attempt)
        unknown = AttemptUnknown(
            execution_id=task.execution_id, attempt=task.attempt, fence=task.fence
        )
        await self._parts.outbox.put(
            unknown, correlation_id=meta.correlation_id, traceparent=meta.traceparent
        )

    async def _compensate(
        self, key: tuple[str, int, int], task: TearDownBench, meta: TaskMeta
    ) -> None:
        """Tear down; an attempt of ours that the scheduler gave up is ended first."""
        try:
            await self._may_begin.wait()
            going = self._tasks.get((task.execution_id, task.attempt))
            if going is not None:
                going.cancel()
                await asyncio.wait({going}, timeout=self._settings.fence_s)
            async with self._teardown_slots:
                await tear_down_bench(
                    task,
                    meta,
                    adapters=self._adapters,
                    settings=self._settings,
                    strays=self._parts.strays,
                    outbox=self._parts.outbox,
                )
        finally:
            del self._teardowns[key]
