"""A worker: life after life, until it is asked to leave. One process holds its state folder.

Never runs two lives at once, nor begins an attempt before what earlier ones left is torn down.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from adapters.contract import Adapter
from events.errors import LogUnavailable, TeoError
from events.log import Log, Partition, Reader
from events.shared import AttemptRef
from events.topics import Topics
from processors.artifacts.files import Offload
from processors.artifacts.store import ArtifactStore
from processors.worker.calls import Strays
from processors.worker.clock import Clock
from processors.worker.compensation import clear_leftovers
from processors.worker.leave import Leave
from processors.worker.life import Ending, Life
from processors.worker.registration import IdInUse
from processors.worker.settings import WorkerSettings
from processors.worker.spool import count_left
from processors.worker.state_dir import Begun, StateDir, StateUnreadable
from processors.worker.telemetry import Telemetry

log = structlog.get_logger()


class Superseded(TeoError):
    """Raised when another process has registered under the same worker id, later than this one."""

    code = "worker_superseded"


class Worker:
    """Serves the benches of one pool. `run` is called once and returns when it has left."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        settings: WorkerSettings,
        adapters: Mapping[str, Adapter],
        store: ArtifactStore,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        offload: Offload = asyncio.to_thread,
    ) -> None:
        self._log = log
        self._topics = topics
        self._settings = settings
        self._adapters = dict(adapters)
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._offload = offload
        self._leave = Leave()
        self._strays = Strays()
        self._telemetry = Telemetry(settings.worker, settings.pool)
        self._life: Life | None = None
        self._is_cleared = False
        """True once what earlier processes left was looked for."""
        self.life = ""
        """Id of the life it is in; empty: none yet."""
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """Epoch of the life it is in, or of the last one; 0: none yet."""
        return self._epoch if self._life is None else self._life.epoch

    @property
    def is_registered(self) -> bool:
        """True while a life of it is registered, for readiness probes."""
        return self._life is not None and self._life.is_registered

    def running(self) -> tuple[AttemptRef, ...]:
        """Return the attempts it runs, in a fixed order."""
        return () if self._life is None else self._life.running()

    def drain(self, reason: str = "asked to drain") -> None:
        """Take no new attempts, let what runs end within `drain_s`, then leave. Returns at once."""
        self._leave.ask(reason, hurry=False)

    def stop(self, reason: str = "asked to stop") -> None:
        """End what runs, report it as the lab's doing, then leave. Returns at once."""
        self._leave.ask(reason, hurry=True)

    async def run(self) -> None:
        """Serve until asked to leave.

        Raises `Superseded` or `IdInUse` if someone else runs under this worker's id, `FenceFell` if
        the log lost facts, `StateInUse`, `StateUnreadable` or `TopicMissing` if it cannot begin.
        Cancelled, it ends what runs, frees the benches and re-raises.
        """
        state = StateDir(self._settings.state_dir)
        try:
            with state.locked():
                if self._settings.forget_fences:
                    state.forget_fences()
                state.fences.check()
                await self._lives(state)
                state.fences.check()
        except BaseExceptionGroup as group:
            raise _first_of(group) from group
        finally:
            self._life = None
            await self._strays.end_all(wait_s=self._settings.steps.cancel_s)

    async def _lives(self, state: StateDir) -> None:
        while not self._leave.asked.is_set():
            reader = await self._open()
            if reader is None:
                return
            try:
                await self._live(state, reader)
            finally:
                await reader.close()

    async def _clear(self, state: StateDir) -> None:
        await clear_leftovers(
            adapters=self._adapters,
            settings=self._settings,
            strays=self._strays,
            state=state,
            is_first_life=not self._is_cleared,
        )
        self._is_cleared = True

    async def _live(self, state: StateDir, reader: Reader) -> None:
        self.life = self._new_id()
        begun = await self._begin(state)
        if begun is None:
            return
        if begun.is_copy:
            state.disown()
        self._drop_old(state, begun.epoch)
        life = Life(
            log=self._log,
            topics=self._topics,
            settings=self._settings,
            adapters=self._adapters,
            store=self._store,
            clock=self._clock,
            new_id=self._new_id,
            telemetry=self._telemetry,
            state=state,
            strays=self._strays,
            reader=reader,
            leave=self._leave,
            life=self.life,
            begun=begun,
            clear=lambda: self._clear(state),
            offload=self._offload,
        )
        self._life = life
        told = {"worker": self._settings.worker, "pool": self._settings.pool, "life": self.life}
        log.info("worker.life_begins", epoch=begun.epoch, **told)
        try:
            ending = await life.live()
        finally:
            self._epoch, self._life = life.epoch, None
        log.info("worker.life_ended", epoch=self.epoch, why=ending.why, **told)
        if ending.why == "superseded":
            state.raise_epoch(ending.newest_epoch)
        self._refuse_to_go_on(ending)

    async def _begin(self, state: StateDir) -> Begun | None:
        """Note that a life begins; None: asked to leave meanwhile.

        A worker that served before waits for a folder that breaks between two lives, aloud, as it
        does for one that breaks within a life; one that starts ends with the error.
        """
        while not self._leave.asked.is_set():
            try:
                if self.epoch:
                    state.probe()
                return state.begin(self.life)
            except StateUnreadable as error:
                if not self.epoch:
                    raise
                fault = error
            log.error("worker.unfit", worker=self._settings.worker, reason=str(fault))
            await self._pause(self._settings.probe_s)
        return None

    def _refuse_to_go_on(self, ending: Ending) -> None:
        """Raise `Superseded` or `IdInUse` if another process has this worker's id."""
        if ending.why == "refused":
            raise IdInUse(ending.reason)
        if ending.why == "superseded":
            where = ending.newest_host or "another host (`teo worker list` shows it)"
            raise Superseded(
                f"worker {self._settings.worker!r} is registered with epoch {ending.newest_epoch} "
                f"by a process on {where}, this process had epoch {self.epoch}: another process "
                "runs under this id; stop that one or choose another --id, then start again"
            )

    async def _open(self) -> Reader | None:
        """Open the end of this worker's tasks, once the log is there; None: asked to leave.

        It stands before the registration is sent, so no task for this life can be missed.
        """
        backoff_s = self._settings.outbox.backoff_s
        while not self._leave.asked.is_set():
            try:
                async with asyncio.timeout(self._settings.deadline_s):
                    return await self._reader_at_end()
            except (LogUnavailable, TimeoutError) as error:
                log.warning("worker.log_unavailable", error=str(error), retry_s=backoff_s)
            await self._pause(backoff_s)
            backoff_s = min(backoff_s * 2, self._settings.outbox.backoff_s_max)
        return None

    async def _reader_at_end(self) -> Reader:
        topic = self._topics.tasks
        count = await self._log.partitions(topic)
        number = self._log.partition_for(self._settings.worker.encode(), count)
        partition = Partition(topic, number)
        ends = await self._log.ends([partition])
        return await self._log.open_reader({partition: ends[partition]})

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._leave.asked.wait()
        except TimeoutError:
            return

    def _drop_old(self, state: StateDir, epoch: int) -> None:
        """Remove what lives before `epoch` had not sent: nobody would believe it any more."""
        for path in state.old_files(epoch):
            try:
                if path.suffix == ".spool" and (count := count_left(path)):
                    log.warning("worker.reports_dropped", count=count, spool=path.name)
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("worker.old_file_stays", path=str(path), error=str(error))


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a life that broke; the others are its cause."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
