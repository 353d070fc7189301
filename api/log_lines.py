"""Lines of an attempt out of batches that may repeat, overlap or be missing. Pure."""

from dataclasses import dataclass, replace

from events.logs import TOO_FAST, LogBatch
from projections.rows import ExecutionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Consecutive lines; `stderr` are indexes in `lines`."""

    attempt: int
    first_line: int
    lines: tuple[str, ...]
    stderr: tuple[int, ...]

    @property
    def last_line(self) -> int:
        """Return the number of the last line."""
        return self.first_line + len(self.lines) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Lines from `first_line` up to, not including, `next_line` are not on the topic."""

    attempt: int
    first_line: int
    next_line: int


class Sieve:
    """Lets each line of one attempt through once, in order, and names what is missing."""

    def __init__(self, attempt: int, next_line: int = 1) -> None:
        self.attempt = attempt
        self.next_line = next_line
        self.is_ended = False
        """True once the attempt said that no more lines come."""

    def sift(self, batch: LogBatch) -> list[Lines | Gap]:
        """Return what is new in a batch of this attempt."""
        assert batch.attempt == self.attempt, (batch.attempt, self.attempt)
        found: list[Lines | Gap] = []
        if batch.first_line > self.next_line:
            found.append(
                Gap(
                    attempt=self.attempt,
                    first_line=self.next_line,
                    next_line=batch.first_line,
                )
            )
        skip = max(0, self.next_line - batch.first_line)
        lines = batch.lines[skip:]
        if lines:
            found.append(
                Lines(
                    attempt=self.attempt,
                    first_line=batch.first_line + skip,
                    lines=lines,
                    stderr=tuple(index - skip for index in batch.stderr_lines if index >= skip),
                )
            )
        self.next_line = max(self.next_line, batch.first_line + len(batch.lines))
        self.is_ended = self.is_ended or batch.is_last
        return found


def without_markers(batch: LogBatch) -> list[LogBatch]:
    """Return a batch in parts, without the lines that stand for others which the archive has."""
    if TOO_FAST not in batch.lines:
        return [batch]
    ends = [index for index, line in enumerate(batch.lines) if line == TOO_FAST]
    parts: list[LogBatch] = []
    for start, stop in zip([0, *(end + 1 for end in ends)], [*ends, len(batch.lines)], strict=True):
        is_last = batch.is_last and stop == len(batch.lines)
        if start == stop and not is_last:
            continue
        stderr = tuple(index - start for index in batch.stderr_lines if start <= index < stop)
        parts.append(
            replace(
                batch,
                first_line=batch.first_line + start,
                lines=batch.lines[start:stop],
                stderr_lines=stderr,
                is_last=is_last,
            )
        )
    return parts


def fence_of(row: ExecutionRow, attempt: int) -> int | None:
    """Return the fence of an attempt; None: the projection does not know it."""
    return next((each.fence for each in row.attempts if each.number == attempt), None)
