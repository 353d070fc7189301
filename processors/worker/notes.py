"""What a worker writes down of an attempt before it touches the bench. Data, and how it is read."""

import contextlib
import json
from dataclasses import asdict, dataclass, fields
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
            found.append(_note_in(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            log.warning("worker.leftover_unreadable", path=str(path), error=str(error))
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".broken"))
    return found


def _note_in(text: str) -> Leftover:
    """Return the note that a text is. Raises `ValueError` or `TypeError` if it is none."""
    note = Leftover(**json.loads(text))
    for each in fields(note):
        value = getattr(note, each.name)
        if type(value) is not each.type or (isinstance(value, int) and not 0 <= value < 2**63):
            raise TypeError(f"{each.name} is {value!r}"[:200])
    return note


def text_of(leftover: Leftover) -> str:
    """Return a note as it is written."""
    return json.dumps(asdict(leftover), sort_keys=True)
