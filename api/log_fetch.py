"""Fetches a part of the log of an attempt, from the topic or the archive. Never follows."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from api.archive import archived_lines, archived_log
from api.limits import LOG_PART_BYTES_MAX
from api.log_lines import Gap, Lines, Sieve, fence_of, without_markers
from api.log_search import LogSearch
from api.service import Service
from processors.artifacts.store import ArtifactMissing, ArtifactStoreUnavailable
from projections.rows import ArtifactRow, AttemptRow, ExecutionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Lines of an attempt. `is_complete`: after these no more will come."""

    found: tuple[Lines, ...]
    next_line: int
    is_complete: bool


class LogFetch:
    """Reads one attempt."""

    def __init__(self, service: Service, row: ExecutionRow, attempt: AttemptRow) -> None:
        self._service = service
        self._row = row
        self._attempt = attempt
        self._search: LogSearch = service.search

    async def part(self, *, since_line: int, limit: int) -> Part:
        """Return up to `limit` lines from `since_line` on, or as many as a part may hold."""
        found: list[Lines] = []
        count, size_bytes = 0, 0
        next_line = since_line
        is_whole = False
        async with aclosing(self.lines(since_line=since_line)) as parts:
            async for lines in parts:
                taken = _within(_first(lines, limit - count), LOG_PART_BYTES_MAX - size_bytes)
                found.append(taken)
                count += len(taken.lines)
                size_bytes += sum(map(len, taken.lines))
                next_line = taken.last_line + 1
                if count >= limit or size_bytes >= LOG_PART_BYTES_MAX:
                    break
            else:
                is_whole = True
        return Part(
            found=tuple(found),
            next_line=next_line,
            is_complete=is_whole and self._is_over,
        )

    @property
    def _is_over(self) -> bool:
        return self._attempt.finished_at is not None or self._row.finished_at is not None

    async def lines(self, *, since_line: int) -> AsyncGenerator[Lines, None]:
        """Yield the lines there are from `since_line` on, in order.

        The topic is read first: it tells stdout from stderr. Where it misses lines, the archive
        takes over.
        """
        number = self._attempt.number
        sieve = Sieve(number, since_line)
        archive = await self._archive()
        fence = fence_of(self._row, number)
        start = await self._search.start_of(self._row)
        stop = await self._search.end_of(self._row.id)
        is_missing = False
        async with aclosing(self._search.read(self._row.id, start, stop)) as batches:
            async for shipped in batches:
                batch = shipped.batch
                if (batch.attempt, batch.fence) != (number, fence):
                    continue
                parts = [batch] if archive is None else without_markers(batch)
                for found in (each for part in parts for each in sieve.sift(part)):
                    if isinstance(found, Lines):
                        yield found
                    elif archive is not None:
                        async for lines in self._archived(archive, found):
                            yield lines
                if sieve.is_ended:
                    return
            is_missing = archive is not None
        if is_missing and archive is not None:
            rest = Gap(attempt=number, first_line=sieve.next_line, next_line=0)
            async for lines in self._archived(archive, rest):
                yield lines

    async def _archive(self) -> ArtifactRow | None:
        if not self._is_over:
            return None
        number = self._attempt.number
        return archived_log(await self._service.reads.artifacts(self._row.id, number), number)

    async def _archived(self, artifact: ArtifactRow, gap: Gap) -> AsyncGenerator[Lines, None]:
        """Yield the lines of a gap; to the end if it has none. A lost archive leaves the gap."""
        parts = archived_lines(
            self._service.deps.artifacts,
            artifact,
            first_line=gap.first_line,
            next_line=gap.next_line or None,
        )
        try:
            async with aclosing(parts) as opened:
                async for first_line, lines in opened:
                    yield Lines(attempt=gap.attempt, first_line=first_line, lines=lines, stderr=())
        except (ArtifactMissing, ArtifactStoreUnavailable):
            return


def _within(lines: Lines, size: int) -> Lines:
    """Return as many of the first of `lines` as reach `size` characters, at least one."""
    total = 0
    for count, line in enumerate(lines.lines, start=1):
        total += len(line)
        if total >= size:
            return _first(lines, count)
    return lines


def _first(lines: Lines, count: int) -> Lines:
    """Return the first `count` of `lines`."""
    if len(lines.lines) <= count:
        return lines
    return Lines(
        attempt=lines.attempt,
        first_line=lines.first_line,
        lines=lines.lines[:count],
        stderr=tuple(index for index in lines.stderr if index < count),
    )
