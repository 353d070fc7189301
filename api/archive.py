"""Reads archived logs back line by line. Never holds a whole one."""

from collections.abc import AsyncGenerator, Sequence

from api.limits import ARCHIVE_BYTES_MAX
from processors.artifacts.store import ArtifactStore
from projections.rows import ArtifactRow

LINES_PER_PART = 2_000
LOG_KIND = "log"


def archived_log(artifacts: Sequence[ArtifactRow], attempt: int) -> ArtifactRow | None:
    """Return the archived log of an attempt, if it is kept and may be read line by line."""
    for artifact in artifacts:
        if artifact.attempt == attempt and artifact.kind == LOG_KIND:
            return artifact if artifact.size_bytes <= ARCHIVE_BYTES_MAX else None
    return None


async def archived_lines(
    store: ArtifactStore, artifact: ArtifactRow, *, first_line: int, next_line: int | None = None
) -> AsyncGenerator[tuple[int, tuple[str, ...]], None]:
    """Yield (number of the first, lines) from `first_line` up to, not including, `next_line`."""
    number = 1
    rest = b""
    async for chunk in store.open(artifact.uri, 0, artifact.size_bytes, sha256=artifact.sha256):
        *lines, rest = (rest + chunk).split(b"\n")
        for part in _parts(lines, number, first_line, next_line):
            yield part
        number += len(lines)
        if next_line is not None and number >= next_line:
            return
    if rest:
        for part in _parts([rest], number, first_line, next_line):
            yield part


def _parts(
    lines: Sequence[bytes], number: int, first_line: int, next_line: int | None
) -> list[tuple[int, tuple[str, ...]]]:
    start = max(0, first_line - number)
    stop = len(lines) if next_line is None else min(len(lines), next_line - number)
    return [
        (
            number + at,
            tuple(
                line.decode(errors="replace") for line in lines[at : min(at + LINES_PER_PART, stop)]
            ),
        )
        for at in range(start, stop, LINES_PER_PART)
    ]
