"""What a worker writes down of an attempt before it touches the bench. Data, and how it is read."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()
BenchKey = tuple[str, str, str]
"""Topic prefix, pool and name of a bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something provisioned, or about to be, and not yet torn down."""

    execution_id: str
    attempt: int
    fence: int
    bench: str
    adapter: str
    handle: str
    epoch: int
    pool: str = ""
    prefix: str = ""

    @property
    def bench_key(self) -> BenchKey:
        """Which bench the fence is of."""
        return self.prefix, self.pool, self.bench


def read_notes(folder: Path) -> list[Leftover]:
    """Return the notes in a folder; a broken one is set aside."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Leftover(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError) as error:
            log.warning("worker.leftover_unreadable", path=str(path), error=str(error))
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".broken"))
    return found


def text_of(leftover: Leftover) -> str:
    """Return a note as it is written."""
    return json.dumps(asdict(leftover), sort_keys=True)
