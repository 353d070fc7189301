"""Follows the lines of one execution, from any line on, to its end. Never shows a stale fence.

What the topic no longer has comes from the archived log. A client that is slower than the test
reads the topic by itself until it is level with the shared tail again.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence

from api.archive import archived_lines, archived_log
from api.hub import Hub
from api.limits import LOG_FENCE_WAIT_S, LOG_SETTLE_S
from api.log_lines import Gap, Lines, Sieve, fence_of, without_markers
from api.log_search import LogSearch
from api.sse import KEEP_ALIVE, frame
from api.tails import Follower, LogTail, Shipped
from events.errors import LogUnavailable
from events.logs import TOO_FAST, LogBatch
from processors.artifacts.store import ArtifactStore
from projections.read_model import ReadModel
from projections.rows import AttemptRow, ExecutionRow

SETTLE_STEP_S = 0.05


class LogFollow:
    """One client's way through the lines of an execution."""

    def __init__(
        self,
        row: ExecutionRow,
        sieve: Sieve,
        *,
        is_single: bool,
        reads: ReadModel,
        tail: LogTail,
        search: LogSearch,
        hub: Hub,
        store: ArtifactStore,
        keep_alive_s: float,
    ) -> None:
        self._row = row
        self._sieve = sieve
        self._is_single = is_single
        self._reads = reads
        self._tail = tail
        self._search = search
        self._hub = hub
        self._store = store
        self._keep_alive_s = keep_alive_s
        self._offset = 0
        """Of the record that is read next."""
        self._settle: tuple[int, float] | None = None
        """Up to which offset, and until when at most, last lines are waited for."""
        self._told = sieve.attempt - 1
        """Number of the last attempt of which is told that another follows it."""

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield the stream."""
        execution_id = self._row.id
        with (
            self._hub.waiting(execution_id) as waiter,
            self._tail.following(execution_id, waiter.wake) as follower,
        ):
            # Looked at again after listening began, so that no change falls between.
            await self._refresh()
            self._offset = await self._search.start_of(self._row)
            count = waiter.count
            while True:
                async for chunk in self._read(follower):
                    yield chunk
                if waiter.count != count:
                    count = waiter.count
                    await self._refresh()
                for chunk in self._requeued():
                    yield chunk
                if await self._is_over(follower):
                    async for chunk in self._finish():
                        yield chunk
                    return
                if follower.is_behind:
                    continue
                wait_s = self._keep_alive_s if self._settle is None else SETTLE_STEP_S
                before_s = asyncio.get_running_loop().time()
                await waiter.wait(wait_s)
                if asyncio.get_running_loop().time() - before_s >= self._keep_alive_s:
                    yield KEEP_ALIVE
                    await self._refresh()

    async def _refresh(self) -> None:
        row = await self._reads.execution(self._row.id)
        if row is not None:
            self._row = row

    def _requeued(self) -> Iterator[bytes]:
        """Yield, once, why each attempt ended that another follows: it may have no lines."""
        if self._is_single:
            return
        for each in self._row.attempts:
            is_last = each is self._row.attempts[-1]
            if each.number > self._told and (not is_last or self._row.status == "queued"):
                self._told = each.number
                about = {"attempt": each.number, "code": each.code, "reason": each.reason}
                yield frame("requeued", about)

    async def _read(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """Yield what the topic has by now."""
        if follower.is_behind:
            # No await between these two: from `stop` on the follower misses nothing.
            follower.level()
            stop = self._tail.position(self._tail.partition_of(self._row.id))
            async for shipped in self._search.read(self._row.id, self._offset, stop):
                async for chunk in self._take([shipped]):
                    yield chunk
            self._offset = max(self._offset, stop)
            return
        async for chunk in self._take(follower.take()):
            yield chunk

    async def _take(self, batches: Sequence[Shipped]) -> AsyncGenerator[bytes, None]:
        """Yield the frames of batches that are new and not stale, joined into one chunk."""
        joined = bytearray()
        for shipped in batches:
            batch = shipped.batch
            if shipped.offset < self._offset:
                continue
            self._offset = shipped.offset + 1
            if batch.attempt < self._sieve.attempt or not await self._is_current(shipped):
                continue
            if batch.attempt > self._sieve.attempt:
                if self._is_single:
                    continue
                async for chunk in self._move(batch.attempt):
                    joined += chunk
            parts = without_markers(batch) if await self._has_marked(batch) else [batch]
            for found in (each for part in parts for each in self._sieve.sift(part)):
                if isinstance(found, Lines):
                    joined += lines_frame(found)
                else:
                    async for chunk in self._fill(found):
                        joined += chunk
        if joined:
            yield bytes(joined)

    async def _has_marked(self, batch: LogBatch) -> bool:
        """Return True if lines of a batch stand for others, and the archive has those."""
        if TOO_FAST not in batch.lines:
            return False
        artifacts = await self._reads.artifacts(self._row.id, batch.attempt)
        return archived_log(artifacts, batch.attempt) is not None

    async def _is_current(self, shipped: Shipped) -> bool:
        """Return True if a batch carries the fence its attempt was given."""
        batch = shipped.batch
        fence = fence_of(self._row, batch.attempt)
        if fence is None:
            fence = await self._fence_once_known(batch.attempt)
        return fence == batch.fence

    async def _fence_once_known(self, attempt: int) -> int:
        """Wait for the projection: lines may be here a moment before the fact of the attempt."""
        until_s = asyncio.get_running_loop().time() + LOG_FENCE_WAIT_S
        with self._hub.waiting(self._row.id) as waiter:
            while True:
                await self._refresh()
                fence = fence_of(self._row, attempt)
                if fence is not None:
                    return fence
                left_s = until_s - asyncio.get_running_loop().time()
                if left_s <= 0:
                    raise LogUnavailable(
                        f"attempt {attempt} of {self._row.id} is not projected yet; follow again"
                    )
                await waiter.wait(left_s)

    async def _move(self, attempt: int) -> AsyncGenerator[bytes, None]:
        """Finish the attempts before `attempt` and go on with it."""
        while self._sieve.attempt < attempt:
            async for chunk in self._rest():
                yield chunk
            self._sieve = Sieve(self._sieve.attempt + 1)
            yield frame("attempt", self._about(self._sieve.attempt))

    def _about(self, number: int) -> dict[str, object]:
        attempt = self._attempt(number)
        if attempt is None:
            return {"attempt": number}
        return {"attempt": number, "bench": attempt.bench, "worker": attempt.worker}

    def _attempt(self, number: int) -> AttemptRow | None:
        return next((each for each in self._row.attempts if each.number == number), None)

    async def _fill(self, gap: Gap) -> AsyncGenerator[bytes, None]:
        """Yield the gap, and its lines if they are archived."""
        yield frame(
            "gap",
            {"attempt": gap.attempt, "first_line": gap.first_line, "next_line": gap.next_line},
        )
        async for lines in self._archived(gap.first_line, gap.next_line):
            yield lines_frame(lines)

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        """Yield what only the archive has of the attempt, at its end."""
        if self._sieve.is_ended:
            return
        first_line = self._sieve.next_line
        is_told = False
        async for lines in self._archived(first_line, None):
            if not is_told:
                is_told = True
                yield frame(
                    "gap",
                    {"attempt": lines.attempt, "first_line": first_line, "next_line": None},
                )
            self._sieve.next_line = lines.last_line + 1
            yield lines_frame(lines)

    async def _archived(self, first: int, stop: int | None) -> AsyncGenerator[Lines, None]:
        artifacts = await self._reads.artifacts(self._row.id, self._sieve.attempt)
        artifact = archived_log(artifacts, self._sieve.attempt)
        if artifact is None:
            return
        parts = archived_lines(self._store, artifact, first_line=first, next_line=stop)
        async for number, lines in parts:
            yield Lines(attempt=self._sieve.attempt, first_line=number, lines=lines, stderr=())

    async def _is_over(self, follower: Follower) -> bool:
        """Return True once the end is known and every line that came before it was read."""
        final = self._final()
        if final is None:
            return False
        if final < self._sieve.attempt or (final == self._sieve.attempt and self._sieve.is_ended):
            return True
        if self._settle is None:
            end = await self._search.end_of(self._row.id)
            self._settle = (end, asyncio.get_running_loop().time() + LOG_SETTLE_S)
        end, until_s = self._settle
        position = self._tail.position(self._tail.partition_of(self._row.id))
        is_level = not follower.is_behind and not follower.has_more and position >= end
        return is_level or asyncio.get_running_loop().time() >= until_s

    def _final(self) -> int | None:
        """Return the number of the last attempt wanted once it is over; None: it is not."""
        if self._is_single:
            attempt = self._attempt(self._sieve.attempt)
            is_over = attempt is not None and attempt.finished_at is not None
            return self._sieve.attempt if is_over or self._row.finished_at else None
        if self._row.finished_at is None:
            return None
        return self._row.attempts[-1].number if self._row.attempts else 0

    async def _finish(self) -> AsyncGenerator[bytes, None]:
        final = self._final() or 0
        if final > self._sieve.attempt:
            async for chunk in self._move(final):
                yield chunk
        async for chunk in self._rest():
            yield chunk
        row = self._row
        end = {
            "status": row.status,
            "verdict": row.verdict,
            "code": row.code,
            "reason": row.reason,
            "exit_code": row.exit_code,
        }
        yield frame("end", end)


def lines_frame(lines: Lines) -> bytes:
    """Return lines as the stream has them; the id resumes after the last one."""
    data = {
        "attempt": lines.attempt,
        "first_line": lines.first_line,
        "lines": lines.lines,
        "stderr": lines.stderr,
    }
    return frame("lines", data, event_id=f"{lines.attempt}.{lines.last_line}")
