"""Reads what a test writes, line by line; never holds more than a read and a partial line.

Lines of one stream are in the order they were written. Between the two streams the order is that of
arrival: what was written to both within one turn of the loop comes out stdout first, because two
pipes carry no common order (a bench's `merge_streams` gives the exact order, as stdout alone).
"""

import asyncio
import os
from collections.abc import Iterator

from adapters.contract import Line, OnLines, Stream

LINE_CHARS_MAX = 16_384
"""A longer line comes as several."""
DRAIN_S = 2.0
"""How long after the test's end a foreign process that holds its pipe open is listened to."""
READ_BYTES = 1 << 16


class _Source:
    """One pipe and the partial line read from it."""

    def __init__(self, fd: int, stream: Stream) -> None:
        self.fd = fd
        self.is_open = True
        self._stream: Stream = stream
        self._tail = b""

    def read(self) -> list[Line]:
        """Return the lines that are complete now; what is partial at the end of all is one too."""
        try:
            chunk = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return []
        if not chunk:
            self.is_open = False
            return self.flush()
        block, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._tail += chunk
            return self._cut_tail()
        texts = (self._tail + block).decode("utf-8", "replace").split("\n")
        self._tail = tail
        return [*self._lines(texts), *self._cut_tail()]

    def flush(self) -> list[Line]:
        """Return the partial last line, if there is one."""
        text, self._tail = self._tail.decode("utf-8", "replace"), b""
        return list(self._lines([text])) if text else []

    def _cut_tail(self) -> list[Line]:
        """Return the full pieces of a partial line that is too long already."""
        pieces: list[Line] = []
        while len(self._tail) > LINE_CHARS_MAX:
            end = LINE_CHARS_MAX
            while end > LINE_CHARS_MAX - 4 and self._tail[end] & 0xC0 == 0x80:
                end -= 1  # Not in the middle of a character.
            text = self._tail[:end].decode("utf-8", "replace")
            pieces.append(Line(self._stream, text, goes_on=True))
            self._tail = self._tail[end:]
        return pieces

    def _lines(self, texts: list[str]) -> Iterator[Line]:
        stream = self._stream
        for text in texts:
            whole = text.removesuffix("\r")
            if len(whole) <= LINE_CHARS_MAX:
                yield Line(stream, whole)
            else:
                for start in range(0, len(whole), LINE_CHARS_MAX):
                    end = start + LINE_CHARS_MAX
                    yield Line(stream, whole[start:end], goes_on=end < len(whole))


class Streams:
    """Both streams of one test, read by one task."""

    def __init__(self, *, stdout: int, stderr: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._sources = [_Source(stdout, "stdout")]
        if stderr >= 0:
            self._sources.append(_Source(stderr, "stderr"))
        self._is_finishing = False
        self._ready: asyncio.Future[bool] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self.silent_since: float | None = self._loop.time()
        """When the last output was read, on the loop's clock; None: it is being handed over."""

    def finish(self) -> None:
        """Say that the test has ended: from now on silence is the end."""
        self._is_finishing = True
        if self._ready is not None and self._silence is None:
            self._silence = self._loop.call_later(DRAIN_S, self._wake, False)

    async def pump(self, on_lines: OnLines) -> None:
        """Hand over all lines until both streams end."""
        while any(source.is_open for source in self._sources):
            heard = await self._wait()
            lines: list[Line] = []
            for source in self._sources:
                if source.is_open:
                    lines += source.read() if heard else source.flush()
            if lines:
                self.silent_since = None
                await on_lines(lines)
            self.silent_since = self._loop.time()
            if not heard:
                return

    async def _wait(self) -> bool:
        """Return True once there is something to read; False after `DRAIN_S` at the end."""
        self._ready = self._loop.create_future()
        fds = [source.fd for source in self._sources if source.is_open]
        # Only while waiting: as long as the lines are not taken, the pipe may fill.
        for fd in fds:
            self._loop.add_reader(fd, self._wake, True)
        if self._is_finishing:
            self._silence = self._loop.call_later(DRAIN_S, self._wake, False)
        try:
            return await self._ready
        finally:
            for fd in fds:
                self._loop.remove_reader(fd)
            if self._silence is not None:
                self._silence.cancel()
            self._ready = self._silence = None

    def _wake(self, heard: bool) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(heard)
