"""One life of a worker, under one epoch: from its registration to its end.

Never outlives its contact with the log, never acts on a task of another life. It ends by saying
why; what follows is up to the worker.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import structlog

from adapters.contract import Adapter
from events.log import Log, Reader
from events.message import TaskMessage
from events.reports import WorkerDraining, WorkerHeartbeat, WorkerStarted, WorkerStopped
from events.shared import AttemptRef, TaskMeta
from events.tasks import (
    CheckBenches,
    LeaveWhenIdle,
    LifeAccepted,
    LifeRefused,
    RunAttempt,
    StopAttempt,
    TearDownBench,
    WorkerSuperseded,
)
from events.topics import Topics
from processors.artifacts.files import Offload
from processors.artifacts.store import ArtifactStore
from processors.worker import fitness
from processors.worker.attempt import AttemptRunner
from processors.worker.calls import Strays
from processors.worker.checks import BenchChecks
from processors.worker.clock import Clock, monotonic_s
from processors.worker.compensation import tear_down_bench
from processors.worker.contact import Contact
from processors.worker.leave import Leave
from processors.worker.outbox import Outbox
from processors.worker.parts import Parts
from processors.worker.reporting import refused
from processors.worker.settings import WorkerSettings
from processors.worker.spool import Spool
from processors.worker.state_dir import StateDir
from processors.worker.tasks_in import TasksIn
from processors.worker.telemetry import Telemetry
from processors.worker.verdict import Cut, left

log = structlog.get_logger()
Key = tuple[str, int]
Why = Literal["fenced", "unheard", "lost", "superseded", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a life ended."""

    why: Why
    """fenced: the log was away too long; unheard: it never heard us; lost: the scheduler has
    given this life up; superseded: a newer life of this worker is registered; left: it was
    asked to go."""
    newest_epoch: int = 0


class Life:
    """A life. `live` is called once."""

    def __init__(
        self,
        *,
        log: Log,
        topics: Topics,
        settings: WorkerSettings,
        adapters: Mapping[str, Adapter],
        store: ArtifactStore,
        clock: Clock,
        new_id: Callable[[], str],
        telemetry: Telemetry,
        state: StateDir,
        strays: Strays,
        reader: Reader,
        leave: Leave,
        epoch: int,
        offload: Offload,
    ) -> None:
        self._settings = settings
        self._adapters = adapters
        self._telemetry = telemetry
        self._strays = strays
        self._leave = leave
        self._epoch = epoch
        self._spool = Spool(state.spool_path(epoch))
        self._contact = Contact(sent_at=monotonic_s(), deadline_s=settings.deadline_s)
        self._outbox = Outbox(
            log=log,
            topics=topics,
            settings=settings,
            epoch=epoch,
            clock=clock,
            new_id=new_id,
            contact=self._contact,
            spool=self._spool,
            heartbeat=lambda: WorkerHeartbeat(running=self.running()),
            on_contact=self._on_contact,
            telemetry=telemetry,
        )
        self._fitness = fitness.Fitness(
            state,
            epoch=epoch,
            settings=settings,
            outbox=self._outbox,
            offload=offload,
            telemetry=telemetry,
        )
        self._checks = BenchChecks(
            adapters=adapters,
            settings=settings,
            strays=strays,
            outbox=self._outbox,
            is_busy=lambda bench: any(each.bench == bench for each in self._attempts.values()),
        )
        self._parts = Parts(
            log=log,
            topics=topics,
            settings=settings,
            store=store,
            clock=clock,
            telemetry=telemetry,
            state=state,
            strays=strays,
            outbox=self._outbox,
            fitness=self._fitness,
            epoch=epoch,
        )
        self._tasks_in = TasksIn(
            reader=reader,
            topics=topics,
            settings=settings,
            outbox=self._outbox,
            clock=clock,
            telemetry=telemetry,
        )
        self._attempts: dict[Key, AttemptRunner] = {}
        self._attempt_tasks: dict[Key, asyncio.Task[None]] = {}
        self._teardowns: dict[tuple[str, int, int], asyncio.Task[None]] = {}
        self._seen: dict[Key, None] = {}
        self._teardown_slots = asyncio.Semaphore(settings.teardowns_max)
        self._registered = asyncio.Event()
        self._ended = asyncio.Event()
        self._ending: Ending | None = None
        self._group = asyncio.TaskGroup()

    @property
    def is_registered(self) -> bool:
        """True once the log has taken its registration, until it ends."""
        return self._registered.is_set() and self._ending is None

    def running(self) -> tuple[AttemptRef, ...]:
        """Return the attempts whose end is not yet on the log, in a fixed order."""
        return tuple(self._attempts[key].ref for key in sorted(self._attempts))

    async def live(self) -> Ending:
        """Register, serve, and return why it ended; by then it runs nothing."""
        try:
            async with self._group as group:
                background = [
                    group.create_task(self._outbox.send(), name="send"),
                    group.create_task(self._read(), name="read"),
                    group.create_task(self._watch(), name="watch"),
                    group.create_task(self._go_when_asked(), name="leave"),
                    group.create_task(self._fitness.watch(), name="fitness"),
                    group.create_task(self._checks.run(), name="checks"),
                ]
                await self._outbox.put(self._started())
                await self._ended.wait()
                for task in background:
                    task.cancel()
                await self._abandon()
        finally:
            self._spool.close()
            self._report_slots()
        assert self._ending is not None
        self._telemetry.life_ended(self._ending.why)
        return self._ending

    def _started(self) -> WorkerStarted:
        return WorkerStarted(
            adapters=tuple(sorted(self._adapters)),
            benches=self._settings.benches,
            slots=self._settings.slots,
            version=self._settings.version,
        )

    def _end(self, why: Why, *, newest_epoch: int = 0) -> None:
        if self._ending is None:
            self._ending = Ending(why=why, newest_epoch=newest_epoch)
            self._ended.set()

    async def _abandon(self) -> None:
        """End everything at once and without a word; give up what does not end in time."""
        tasks = [*self._attempt_tasks.values(), *self._teardowns.values()]
        tasks = [task for task in tasks if not task.done()]
        # The second cancel cuts short whatever cleaning up is still under way.
        for wait_s in (self._settings.fence_s, self._settings.fence_s / 3):
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=wait_s)
            tasks = [task for task in tasks if not task.done()]
        if tasks:
            log.error("worker.not_free_in_time", count=len(tasks), limit_s=self._settings.fence_s)

    def _on_contact(self) -> None:
        """Let what runs go on for as long as the log's last answer is good for."""
        if not self._contact.is_fresh(monotonic_s()):
            self._end("fenced")
            return
        self._registered.set()
        for key in sorted(self._attempts):
            self._attempts[key].lease.renew(self._contact.until)

    async def _watch(self) -> None:
        """End this life when the log has been away for too long."""
        while True:
            now = monotonic_s()
            if not self._contact.is_fresh(now):
                why: Why = "fenced" if self._contact.is_made else "unheard"
                log.warning("worker.out_of_contact", why=why, epoch=self._epoch)
                self._end(why)
                return
            await asyncio.sleep(self._contact.left_s(now))

    async def _read(self) -> None:
        """Take tasks, from the registration on, for as long as they can be read."""
        await self._registered.wait()
        await self._tasks_in.follow(self._do)
        self._end("fenced")

    async def _do(self, message: TaskMessage) -> None:
        meta, task = message.meta, message.body
        if meta.worker != self._settings.worker or meta.pool != self._settings.pool:
            self._telemetry.task_refused("not_mine")
            return
        newest = task.newest_epoch if isinstance(task, WorkerSuperseded) else meta.epoch
        if newest > self._epoch:
            self._end("superseded", newest_epoch=newest)
            return
        if newest < self._epoch:
            self._telemetry.task_refused("old_epoch")
            return
        match task:
            case WorkerSuperseded():
                log.warning("worker.lost", epoch=self._epoch)
                self._end("lost")
            case RunAttempt():
                await self._run_attempt(task, meta)
            case StopAttempt():
                self._stop_attempt(task)
            case TearDownBench():
                self._tear_down(task, meta)
            case LeaveWhenIdle():
                self._leave.ask(task.reason, hurry=False, soon=False)
            case CheckBenches():
                self._checks.order(task)
            case LifeAccepted() | LifeRefused():
                self._telemetry.task_refused("not_yet")
            case _:
                assert_never(task)

    async def _run_attempt(self, task: RunAttempt, meta: TaskMeta) -> None:
        key = (task.execution_id, task.attempt)
        if key in self._seen:
            return  # A repeat.
        if not self._contact.is_fresh(monotonic_s()):
            self._end("fenced")
            return
        self._seen[key] = None
        if len(self._seen) > self._settings.seen_max:
            del self._seen[next(iter(self._seen))]
        adapter = self._adapters.get(task.bench.adapter)
        refusal = self._refusal(task)
        if adapter is None or refusal is not None:
            code, reason = refusal or ("no_such_adapter", f"no adapter {task.bench.adapter!r} here")
            await self._refuse(task, meta, code, reason)
            return
        runner = AttemptRunner(
            task, meta, adapter=adapter, parts=self._parts, lease_until=self._contact.until
        )
        self._attempts[key] = runner
        self._attempt_tasks[key] = self._group.create_task(
            self._attend(key, runner), name=f"attempt {key}"
        )
        self._report_slots()

    async def _attend(self, key: Key, runner: AttemptRunner) -> None:
        try:
            await runner.go()
        finally:
            self._attempts.pop(key, None)
            self._attempt_tasks.pop(key, None)
            self._report_slots()

    def _refusal(self, task: RunAttempt) -> tuple[str, str] | None:
        """Return code and reason if the attempt cannot be taken; None if it can."""
        active = [self._attempts[key] for key in sorted(self._attempts)]
        active = [runner for runner in active if not runner.is_over]
        if self._leave.is_over:
            return "worker_draining", "the worker is about to leave"
        if self._fitness.reason:
            return fitness.CODE, self._fitness.reason
        if any(runner.bench == task.bench.name for runner in active):
            return "bench_busy", f"bench {task.bench.name} still has an attempt on this worker"
        if len(active) >= self._settings.slots:
            return "no_slot", f"all {self._settings.slots} slots of this worker are in use"
        return None

    async def _refuse(self, task: RunAttempt, meta: TaskMeta, code: str, reason: str) -> None:
        """Answer an attempt that is not begun: the bench was never touched."""
        if code == fitness.CODE:
            await self._fitness.failed(self._fitness.reason)
        log.warning("worker.attempt_refused", execution_id=task.execution_id, code=code)
        self._telemetry.task_refused(code)
        reason = f"{reason}: worker {self._settings.worker} did not begin it"
        await self._outbox.put(
            refused(task, code, reason),
            correlation_id=meta.correlation_id,
            traceparent=meta.traceparent,
        )

    def _stop_attempt(self, task: StopAttempt) -> None:
        """Cut the attempt. Fence 0 means: whichever it is, the scheduler knows it no more."""
        runner = self._attempts.get((task.execution_id, task.attempt))
        if runner is not None and task.fence in (0, runner.fence):
            runner.cut(Cut(verdict="cancelled", code=task.code, reason=task.reason))

    def _tear_down(self, task: TearDownBench, meta: TaskMeta) -> None:
        key = (task.execution_id, task.attempt, task.fence)
        if key not in self._teardowns:
            work = self._compensate(key, task, meta)
            self._teardowns[key] = self._group.create_task(work, name=f"teardown {key}")

    async def _compensate(
        self, key: tuple[str, int, int], task: TearDownBench, meta: TaskMeta
    ) -> None:
        """Tear down; an attempt of ours that the scheduler gave up is ended first."""
        try:
            going = self._attempt_tasks.get((task.execution_id, task.attempt))
            if going is not None:
                going.cancel()
                await asyncio.wait({going}, timeout=self._settings.fence_s)
            async with self._teardown_slots:
                await tear_down_bench(
                    task,
                    meta,
                    adapters=self._adapters,
                    settings=self._settings,
                    strays=self._strays,
                    outbox=self._outbox,
                )
        finally:
            del self._teardowns[key]

    async def _go_when_asked(self) -> None:
        """Leave in good order: no new attempts, what runs may end, then a last word."""
        await self._leave.asked.wait()
        await self._outbox.put(WorkerDraining(reason=self._leave.reason))
        await self._until_idle()
        self._leave.is_over = True
        for key in sorted(self._attempts):
            reason = f"the worker left before it ended: {self._leave.reason}"
            self._attempts[key].cut(left(reason))
        while tasks := [*self._attempt_tasks.values(), *self._teardowns.values()]:
            await asyncio.wait(tasks)
        number = await self._outbox.put(WorkerStopped(reason=self._leave.reason))
        try:
            async with asyncio.timeout(self._settings.goodbye_s):
                await self._outbox.taken(number)
        except TimeoutError:
            log.warning("worker.left_unheard", epoch=self._epoch)
        self._end("left")

    async def _until_idle(self) -> None:
        """Return once nothing runs, or the time for it is up, or it was asked to hurry."""
        await self._idle_or(self._leave.soon)
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._idle_or(self._leave.hurry)
        except TimeoutError:
            log.warning("worker.drain_over", limit_s=self._settings.drain_s)

    async def _idle_or(self, asked: asyncio.Event) -> None:
        """Return once nothing runs, or `asked` is set."""
        wish = self._group.create_task(asked.wait(), name="wish")
        try:
            while not wish.done() and (tasks := [*self._attempt_tasks.values()]):
                await asyncio.wait([*tasks, wish], return_when=asyncio.FIRST_COMPLETED)
        finally:
            wish.cancel()

    def _report_slots(self) -> None:
        self._telemetry.slots(used=len(self._attempts), total=self._settings.slots)
