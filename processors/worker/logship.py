"""Output of one attempt: every line to a file, and as many as the limits allow to the log.

Never slows a test down for the log's sake, never lets a secret through, never fails an attempt.
A line's number on the log is its number in the file; lines kept back leave a gap, and a marker
stands in the place of the first of them.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import structlog

from events.codec import encode
from events.errors import LogUnavailable, TeoError
from events.log import Log, Outgoing
from events.logs import TOO_FAST, LogBatch
from events.shared import AttemptRef
from events.topics import Topics
from processors.worker.clock import Clock, monotonic_s
from processors.worker.masking import Masker
from processors.worker.rate import TokenBucket
from processors.worker.settings import LogLimits
from processors.worker.telemetry import Telemetry

log = structlog.get_logger()
RETRY_S = 0.2
CUT_MARK = " [teo: line cut here, it is whole in log.txt]"
FILE_FULL = "[teo: the output is over its limit; the rest is not kept]"


@dataclass(slots=True)
class _Lines:
    """Consecutive lines that go out together."""

    first_line: int
    lines: list[str] = field(default_factory=list)
    stderr_lines: list[int] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def next_line(self) -> int:
        return self.first_line + len(self.lines)


class LogShipper:
    """Takes lines without waiting and ships them in batches."""

    def __init__(
        self,
        ref: AttemptRef,
        *,
        fence: int,
        path: Path,
        log: Log,
        topics: Topics,
        limits: LogLimits,
        append_timeout_s: float,
        masker: Masker,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._ref = ref
        self._fence = fence
        self._log = log
        self._topic = topics.logs
        self._limits = limits
        self._append_timeout_s = append_timeout_s
        self._masker = masker
        self._clock = clock
        self._telemetry = telemetry
        now = monotonic_s()
        self._lines_bucket = TokenBucket(
            rate=limits.rate_lines_s, burst=limits.burst_lines, now=now
        )
        self._bytes_bucket = TokenBucket(
            rate=limits.rate_bytes_s, burst=limits.burst_bytes, now=now
        )
        self._pending: deque[_Lines] = deque()
        self._pending_bytes = 0
        self._file = _LineFile(path, bytes_max=limits.file_bytes_max)
        self._held: dict[bool, str] = {}
        """What is held back of lines that go on, by whether it is stderr."""
        self._is_kept_back = False
        self._is_ended = False
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self.count = 0
        """Lines seen."""
        self.last_line_at = now
        """When the last line came, on the monotonic clock."""

    @property
    def note(self) -> str:
        """What people should know of the file; empty: it is whole."""
        return self._file.note

    def line(self, text: str, is_stderr: bool, *, goes_on: bool = False) -> None:
        """Take one line of output, without its end. Nothing is taken after `end`.

        Of one that goes on, the end is held back until the next comes: a secret may stand in both.
        """
        if self._is_ended:
            return
        self.last_line_at = monotonic_s()
        text = self._held.pop(is_stderr, "") + text
        if goes_on:
            text, self._held[is_stderr] = self._masker.held_back(text)
        self._take_line(self._masker(text), is_stderr, self.last_line_at)

    def _take_line(self, text: str, is_stderr: bool, now: float) -> None:
        self.count += 1
        data = text.encode(errors="replace")
        self._file.write(data)
        if len(data) > self._limits.line_bytes_max:
            text = data[: self._limits.line_bytes_max].decode(errors="ignore") + CUT_MARK
            data = text.encode()
        elif not text.isascii():
            text = data.decode()
        if self._may_ship(len(data), now):
            self._is_kept_back = False
            self._add(text, is_stderr, len(data))
            return
        self._telemetry.log_lines_kept_back.add(1)
        if not self._is_kept_back:
            self._is_kept_back = True
            self._add(TOO_FAST, True, len(TOO_FAST))

    def end(self) -> None:
        """Say that no more lines come; `ship` sends the rest and returns."""
        for is_stderr, text in self._held.items():
            self._take_line(self._masker(text), is_stderr, monotonic_s())
        self._held.clear()
        self._is_ended = True
        self._file.close()
        self._wake.set()
        self._hurry.set()

    async def ship(self) -> None:
        """Send lines until all are sent after `end`."""
        while True:
            await self._wake.wait()
            await self._gather()
            batches = self._take()
            is_last = self._is_ended and not self._pending
            if is_last and (not batches or batches[-1].next_line <= self.count):
                # The end says how many lines there were, also where the last were kept back.
                batches.append(_Lines(self.count + 1))
            await self._send(batches, is_last=is_last)
            if is_last:
                return
            if not self._pending and not self._is_ended:
                self._wake.clear()
                self._hurry.clear()

    def _may_ship(self, size_bytes: int, now: float) -> bool:
        if self._pending_bytes + size_bytes > self._limits.buffer_bytes_max:
            return False
        may_lines = self._lines_bucket.can_take(1, now)
        may_bytes = self._bytes_bucket.can_take(size_bytes, now)
        if not (may_lines and may_bytes):
            return False
        self._lines_bucket.take(1)
        self._bytes_bucket.take(size_bytes)
        return True

    def _add(self, text: str, is_stderr: bool, size_bytes: int) -> None:
        last = self._pending[-1] if self._pending else None
        if (
            last is None
            or last.next_line != self.count
            or len(last.lines) >= self._limits.batch_lines_max
            or last.size_bytes + size_bytes > self._limits.batch_bytes_max
        ):
            if last is not None:
                self._hurry.set()
            last = _Lines(self.count)
            self._pending.append(last)
        if is_stderr:
            last.stderr_lines.append(len(last.lines))
        last.lines.append(text)
        last.size_bytes += size_bytes
        self._pending_bytes += size_bytes
        self._wake.set()

    async def _gather(self) -> None:
        """Wait a moment for more lines, unless a batch is full already."""
        try:
            async with asyncio.timeout(self._limits.batch_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _take(self) -> list[_Lines]:
        count = min(len(self._pending), self._limits.batches_max)
        batches = [self._pending.popleft() for _ in range(count)]
        self._pending_bytes -= sum(batch.size_bytes for batch in batches)
        return batches

    async def _send(self, batches: Sequence[_Lines], *, is_last: bool) -> None:
        """Send until the log takes it; what it can never take stays in the file alone."""
        records = [
            self._record(batch, is_last=is_last and batch is batches[-1]) for batch in batches
        ]
        while True:
            try:
                async with asyncio.timeout(self._append_timeout_s):
                    await self._log.append(records)
            except (LogUnavailable, TimeoutError):
                await asyncio.sleep(RETRY_S)
            except TeoError as error:
                log.warning(
                    "worker.lines_refused", execution_id=self._ref.execution_id, error=str(error)
                )
                return
            else:
                self._telemetry.log_lines.add(sum(len(batch.lines) for batch in batches))
                return

    def _record(self, batch: _Lines, *, is_last: bool) -> Outgoing:
        value = LogBatch(
            execution_id=self._ref.execution_id,
            attempt=self._ref.attempt,
            fence=self._fence,
            first_line=batch.first_line,
            at=self._clock.now(),
            lines=tuple(batch.lines),
            stderr_lines=tuple(batch.stderr_lines),
            is_last=is_last,
        )
        return Outgoing(topic=self._topic, key=self._ref.execution_id.encode(), value=encode(value))


class _LineFile:
    """The whole output on disk, up to a limit. A full disk ends the file, not the test."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._file: BinaryIO | None = None
        self.note = ""
        try:
            self._file = path.open("wb", buffering=256 * 1024)
        except OSError as error:
            self.note = f"the output could not be kept in a file: {error}"

    def write(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            if self._size_bytes + len(data) > self._bytes_max:
                self._file.write(FILE_FULL.encode() + b"\n")
                self.note = f"only the first {self._size_bytes} bytes of the output were kept"
                self.close()
                return
            self._file.write(data)
            self._file.write(b"\n")
            self._size_bytes += len(data) + 1
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.note = f"the output was not kept whole: {error}"
        self._file = None
