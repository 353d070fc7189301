"""One life of a worker: it asks to be registered, serves, and ends.

Its order is: ask, until accepted; beat; tear down what earlier lives left; only then begin the
attempts that came meanwhile. Never touches a bench before the log has accepted it: whoever else
runs under its id may drive it. Never outlives its contact with the log, never acts on a task of
another life. It ends by saying why; what follows is up to the worker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import structlog

from adapters.contract import Adapter
from events.log import Log, Reader
from events.message import TaskMessage
from events.reports import (
    Report,
    WorkerDraining,
    WorkerHeartbeat,
    WorkerStarted,
    WorkerStopped,
)
from events.shared import AttemptRef, TaskMeta
from events.tasks import (
    CheckBenches,
    LeaveWhenIdle,
    LifeAccepted,
    LifeRefused,
    RunAttempt,
    StopAttempt,
    Task,
    TearDownBench,
    WorkerSuperseded,
)
from events.topics import Topics
from processors.artifacts.files import Offload
from processors.artifacts.store import ArtifactStore
from processors.worker.attempts import Attempts
from processors.worker.calls import Strays
from processors.worker.checks import BenchChecks
from processors.worker.clock import Clock, monotonic_s
from processors.worker.contact import Contact
from processors.worker.fitness import Fitness
from processors.worker.leave import Leave
from processors.worker.outbox import Outbox
from processors.worker.parts import Parts
from processors.worker.registration import Identity, Refusals
from processors.worker.settings import WorkerSettings
from processors.worker.spool import Spool
from processors.worker.state_dir import Begun, StateDir, StateUnreadable
from processors.worker.tasks_in import TasksIn
from processors.worker.telemetry import Telemetry
from processors.worker.verdict import left

log = structlog.get_logger()
Why = Literal["fenced", "unheard", "lost", "superseded", "refused", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a life ended."""

    why: Why
    """fenced: the log was away too long; unheard: it never heard us; lost: the scheduler has
    given this life up; superseded: a newer life of this worker is registered; refused: another
    one is and stays; left: it was asked to go."""
    newest_epoch: int = 0
    newest_host: str = ""
    reason: str = ""


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
        life: str,
        begun: Begun,
        clear: Callable[[], Awaitable[None]],
        offload: Offload,
    ) -> None:
        self._settings = settings
        self._adapters = adapters
        self._telemetry = telemetry
        self._leave = leave
        self._state = state
        self._after_life = begun.after_life
        self._clear = clear
        self._identity = Identity(life=life, epoch=begun.epoch)
        self._refusals = Refusals(settings)
        self._spool = Spool(state.spool_path(begun.epoch))
        self._contact = Contact(sent_at=monotonic_s(), deadline_s=settings.deadline_s)
        self._outbox = Outbox(
            log=log,
            topics=topics,
            settings=settings,
            identity=self._identity,
            clock=clock,
            new_id=new_id,
            contact=self._contact,
            spool=self._spool,
            beat=self._beat,
            on_contact=self._on_contact,
            telemetry=telemetry,
        )
        self._fitness = Fitness(
            state,
            identity=self._identity,
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
            is_busy=lambda bench: self._attempts.is_on(bench),
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
            epoch=begun.epoch,
        )
        self._tasks_in = TasksIn(
            reader=reader,
            topics=topics,
            settings=settings,
            outbox=self._outbox,
            clock=clock,
            telemetry=telemetry,
        )
        self._registered = asyncio.Event()
        self._ended = asyncio.Event()
        self._ending: Ending | None = None
        self._group = asyncio.TaskGroup()
        self._attempts = Attempts(
            parts=self._parts, adapters=adapters, leave=leave, group=self._group
        )

    @property
    def is_registered(self) -> bool:
        """True once it is accepted, until it ends."""
        return self._registered.is_set() and self._ending is None

    @property
    def epoch(self) -> int:
        """The epoch that the log gave it, or what it asks for."""
        return self._identity.epoch

    def running(self) -> tuple[AttemptRef, ...]:
        """Return the attempts whose end is not yet on the log, in a fixed order."""
        return self._attempts.running()

    async def live(self) -> Ending:
        """Ask, serve, and return why it ended; by then it runs nothing."""
        try:
            async with self._group as group:
                background = [
                    group.create_task(self._outbox.send(), name="send"),
                    group.create_task(self._read(), name="read"),
                    group.create_task(self._watch(), name="watch"),
                    group.create_task(self._go_when_asked(), name="leave"),
                    group.create_task(self._stay_fit(), name="fitness"),
                    group.create_task(self._clear_when_accepted(), name="clear"),
                    group.create_task(self._check_benches(), name="checks"),
                ]
                await self._ended.wait()
                for task in background:
                    task.cancel()
                await self._abandon()
        finally:
            self._spool.close()
            self._attempts.report_slots()
        assert self._ending is not None
        self._telemetry.life_ended(self._ending.why)
        return self._ending

    def _beat(self) -> Report:
        """Return what is said again and again: that it asks, or what it runs."""
        if self._registered.is_set():
            return WorkerHeartbeat(running=self.running())
        return WorkerStarted(
            adapters=tuple(sorted(self._adapters)),
            benches=self._settings.benches,
            slots=self._settings.slots,
            version=self._settings.version,
            after_life=self._after_life,
            host=self._settings.host,
        )

    def _end(
        self, why: Why, *, newest_epoch: int = 0, newest_host: str = "", reason: str = ""
    ) -> None:
        if self._ending is None:
            self._ending = Ending(
                why=why, newest_epoch=newest_epoch, newest_host=newest_host, reason=reason
            )
            self._ended.set()

    async def _abandon(self) -> None:
        """End everything at once and without a word; give up what does not end in time."""
        tasks = [task for task in self._attempts.work if not task.done()]
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
        self._attempts.renew(self._contact.until)

    async def _watch(self) -> None:
        """End this life when the log has been away for too long."""
        while True:
            now = monotonic_s()
            if not self._contact.is_fresh(now):
                why: Why = "fenced" if self._contact.is_made else "unheard"
                log.warning("worker.out_of_contact", why=why, epoch=self.epoch)
                self._end(why)
                return
            await asyncio.sleep(self._contact.left_s(now))

    async def _read(self) -> None:
        """Take tasks, the answer to its asking first, for as long as they can be read."""
        await self._tasks_in.follow(self._do)
        self._end("fenced")

    async def _do(self, message: TaskMessage) -> None:
        meta, task = message.meta, message.body
        if meta.worker != self._settings.worker or meta.pool != self._settings.pool:
            self._telemetry.task_refused("not_mine")
        elif self._identity.is_for(meta):
            self._do_mine(task, meta)
        elif isinstance(task, LifeAccepted) and self.is_registered and meta.epoch > self.epoch:
            self._end("superseded", newest_epoch=meta.epoch)
        else:
            self._telemetry.task_refused("other_life")

    def _do_mine(self, task: Task, meta: TaskMeta) -> None:
        match task:
            case LifeAccepted():
                self._accepted(meta)
            case LifeRefused():
                if reason := self._refusals.note(task, monotonic_s()):
                    self._end("refused", reason=reason)
            case WorkerSuperseded():
                self._superseded(task)
            case RunAttempt():
                self._run_attempt(task, meta)
            case StopAttempt():
                self._attempts.stop(task, meta)
            case TearDownBench():
                self._tear_down(task, meta)
            case LeaveWhenIdle():
                self._leave.ask(task.reason, hurry=False, soon=False)
            case CheckBenches():
                self._checks.order(task)
            case _:
                assert_never(task)

    def _run_attempt(self, task: RunAttempt, meta: TaskMeta) -> None:
        if self._contact.is_fresh(monotonic_s()):
            self._attempts.run(task, meta, lease_until=self._contact.until)
        else:
            self._end("fenced")

    def _tear_down(self, task: TearDownBench, meta: TaskMeta) -> None:
        """Tear down, unless that comes too late: by now somebody else may have been asked to."""
        if self._contact.is_fresh(monotonic_s()):
            self._attempts.tear_down(task, meta)
        else:
            self._end("fenced")

    def _accepted(self, meta: TaskMeta) -> None:
        """Be registered, unless that comes too late; a repeat of the answer changes nothing.

        Since the ask that was accepted it has said a word in every `deadline_s`, or its contact has
        lapsed: so a life that finds itself accepted and in contact is not lost.
        """
        if not self._contact.is_fresh(monotonic_s()):
            self._end("fenced")
        elif not self._registered.is_set():
            self._identity.epoch = meta.epoch
            self._keep_epoch()
            self._registered.set()
            self._outbox.beat_now()
            log.info("worker.accepted", worker=self._settings.worker, epoch=self.epoch)
        elif meta.epoch != self.epoch:
            self._end("lost")

    def _keep_epoch(self) -> None:
        """Keep what the log gave; a folder that does not take it now is told of by the fitness."""
        try:
            self._state.raise_epoch(self.epoch)
        except StateUnreadable as error:
            log.warning("worker.epoch_not_kept", epoch=self.epoch, error=str(error))

    def _superseded(self, task: WorkerSuperseded) -> None:
        if task.newest_life not in ("", self._identity.life):
            self._end("superseded", newest_epoch=task.newest_epoch, newest_host=task.newest_host)
        else:
            log.warning("worker.lost", epoch=self.epoch)
            self._end("lost")

    async def _stay_fit(self) -> None:
        """Say what this worker can run, once somebody believes it."""
        await self._registered.wait()
        await self._fitness.watch()

    async def _clear_when_accepted(self) -> None:
        await self._registered.wait()
        await self._clear()
        self._attempts.begin()

    async def _check_benches(self) -> None:
        """Look at benches once nothing of earlier lives is on them."""
        await self._attempts.begun()
        await self._checks.run()

    async def _go_when_asked(self) -> None:
        """Leave in good order: no new attempts, what runs may end, then a last word."""
        await self._leave.asked.wait()
        if self._registered.is_set():
            await self._outbox.put(WorkerDraining(reason=self._leave.reason))
            await self._until_idle()
        self._leave.is_over = True
        self._attempts.cut(left(f"the worker left before it ended: {self._leave.reason}"))
        while tasks := self._attempts.work:
            await asyncio.wait(tasks)
        number = await self._outbox.put(WorkerStopped(reason=self._leave.reason))
        try:
            async with asyncio.timeout(self._settings.goodbye_s):
                await self._outbox.taken(number)
        except TimeoutError:
            log.warning("worker.left_unheard", epoch=self.epoch)
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
            while not wish.done() and (tasks := self._attempts.going):
                await asyncio.wait([*tasks, wish], return_when=asyncio.FIRST_COMPLETED)
        finally:
            wish.cancel()
