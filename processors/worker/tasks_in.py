"""The one ear of a worker's life: the tasks of its worker, in order. Never acts on one itself."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from events.codec import decode_task, encode
from events.errors import LogUnavailable, Undecodable
from events.letters import dead_letter
from events.log import Outgoing, Reader, Record
from events.message import TaskMessage
from events.topics import Topics
from processors.worker.clock import Clock, monotonic_s
from processors.worker.outbox import Outbox
from processors.worker.settings import WorkerSettings
from processors.worker.telemetry import Telemetry

log = structlog.get_logger()


class TasksIn:
    """Tasks of one worker, from where `reader` stands."""

    def __init__(
        self,
        *,
        reader: Reader,
        topics: Topics,
        settings: WorkerSettings,
        outbox: Outbox,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._reader = reader
        self._topics = topics
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._telemetry = telemetry

    async def follow(self, do: Callable[[TaskMessage], Awaitable[None]]) -> None:
        """Hand each task to `do`; return when the log cannot be read any more.

        Whoever cannot hear that it must stop has to stop by itself.
        """
        settings = self._settings
        answered_at = monotonic_s()
        while True:
            try:
                async with asyncio.timeout(settings.poll_s + settings.deadline_s):
                    records = await self._reader.poll(
                        records_max=settings.poll_records_max, wait_s=settings.poll_s
                    )
            except (LogUnavailable, TimeoutError) as error:
                is_timeout = isinstance(error, TimeoutError)
                if is_timeout or monotonic_s() - answered_at > settings.deadline_s:
                    log.warning("worker.cannot_read_tasks", error=str(error))
                    return
                await asyncio.sleep(settings.outbox.backoff_s)
                continue
            answered_at = monotonic_s()
            for record in records:
                # Others' tasks are in the same partition.
                if record.key == settings.worker.encode():
                    message = await self._decoded(record)
                    if message is not None:
                        await do(message)

    async def _decoded(self, record: Record) -> TaskMessage | None:
        """Return the task, or None once what cannot be read is among the dead letters."""
        try:
            return decode_task(record.value)
        except Undecodable as error:
            log.warning("worker.task_undecodable", offset=record.offset, error=str(error))
            self._telemetry.task_refused("undecodable")
            letter = dead_letter(
                record,
                error,
                pool=self._settings.pool,
                found_by=f"worker {self._settings.worker}",
                found_at=self._clock.now(),
            )
            await self._outbox.put_record(
                Outgoing(topic=self._topics.dlq, key=record.key, value=encode(letter))
            )
            return None
