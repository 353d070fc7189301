"""The one mouth of a worker's life: reports in order, beats between them, retried until taken.

Never sends a report of another life, never reorders, never holds more than its limits.
"""

import asyncio
from collections.abc import Callable

import structlog

from events.codec import encode, type_name
from events.errors import LogUnavailable, RecordTooBig
from events.log import Log, Outgoing
from events.message import Message
from events.reports import Report
from events.shared import ReportMeta
from events.topics import Topics
from processors.worker.clock import Clock, monotonic_s
from processors.worker.contact import Contact
from processors.worker.registration import Identity
from processors.worker.settings import WorkerSettings
from processors.worker.spool import Spool
from processors.worker.telemetry import Telemetry

log = structlog.get_logger()


class Outbox:
    """Reports of one life on their way to the log.

    A batch that got no definite answer is sent again as it is: same report ids, same order. So a
    report may stand on the log twice, but never before one that was put earlier.
    """

    def __init__(
        self,
        *,
        log: Log,
        topics: Topics,
        settings: WorkerSettings,
        identity: Identity,
        clock: Clock,
        new_id: Callable[[], str],
        contact: Contact,
        spool: Spool,
        beat: Callable[[], Report],
        on_contact: Callable[[], None],
        telemetry: Telemetry,
    ) -> None:
        self._log = log
        self._topics = topics
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._new_id = new_id
        self._contact = contact
        self._spool = spool
        self._beat = beat
        self._beat_at = monotonic_s()
        self._on_contact = on_contact
        self._telemetry = telemetry
        self._put = 0
        self._taken = 0
        self._changed = asyncio.Condition()
        self._work = asyncio.Event()

    async def put(self, report: Report, *, correlation_id: str = "", traceparent: str = "") -> int:
        """Spool `report`; return its number, to wait for. Waits while the outbox is full."""
        record = self._record(report, correlation_id, traceparent)
        return await self.put_record(record)

    async def put_record(self, record: Outgoing) -> int:
        """Spool a record of any topic; return its number."""
        limits = self._settings.outbox
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    len(self._spool) < limits.records_max
                    and self._spool.size_bytes < limits.bytes_max
                )
            )
            self._spool.append(record)
            self._put += 1
            self._work.set()
            return self._put

    async def taken(self, number: int) -> None:
        """Return once the report of that number is on the log."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._taken >= number)

    def beat_now(self) -> None:
        """Send the next beat at once."""
        self._beat_at = monotonic_s()
        self._work.set()

    async def send(self) -> None:
        """Send until cancelled, a beat whenever one is due."""
        limits = self._settings.outbox
        backoff_s = limits.backoff_s
        while True:
            now = monotonic_s()
            is_due = now >= self._beat_at
            if not is_due and not len(self._spool):
                await self._wait(self._beat_at - now)
                continue
            if is_due:
                self._beat_at = now + self._settings.heartbeat_s
            if await self._send_batch(with_beat=is_due):
                backoff_s = limits.backoff_s
                continue
            self._beat_at = now
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, limits.backoff_s_max)

    async def _wait(self, limit_s: float) -> None:
        self._work.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._work.wait()
        except TimeoutError:
            return

    async def _send_batch(self, *, with_beat: bool) -> bool:
        """Send what waits; return False if the log gave no answer."""
        limits = self._settings.outbox
        batch = self._spool.peek(
            records_max=limits.batch_records_max, bytes_max=limits.batch_bytes_max
        )
        records = list(batch)
        if with_beat:
            records.insert(0, self._record(self._beat(), "", ""))
        sent_at = monotonic_s()
        try:
            async with asyncio.timeout(self._settings.append_timeout_s):
                await self._log.append(records)
        except (LogUnavailable, RecordTooBig, TimeoutError) as error:
            log.warning("worker.log_unavailable", waiting=len(self._spool), error=str(error))
            return False
        self._telemetry.reports.add(len(records))
        self._contact.acknowledged(sent_at=sent_at, now=monotonic_s())
        if (log_now := self._log.time.now()) is not None:
            self._telemetry.wall_clock((self._clock.now() - log_now).total_seconds())
        self._on_contact()
        async with self._changed:
            self._spool.drop(len(batch))
            self._taken += len(batch)
            self._changed.notify_all()
        return True

    def _record(self, report: Report, correlation_id: str, traceparent: str) -> Outgoing:
        meta = ReportMeta(
            report_id=self._new_id(),
            pool=self._settings.pool,
            worker=self._settings.worker,
            epoch=self._identity.epoch,
            life=self._identity.life,
            sent_at=self._clock.now(),
            correlation_id=correlation_id,
            traceparent=traceparent,
        )
        headers = {"ce_type": type_name(report).encode(), "ce_id": meta.report_id.encode()}
        if traceparent:
            headers["traceparent"] = traceparent.encode()
        return Outgoing(
            topic=self._topics.reports,
            key=self._settings.pool.encode(),
            value=encode(Message(meta, report)),
            headers=headers,
        )
