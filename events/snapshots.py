"""The scheduler's state as it was after one event, so that a recovery need not fold from the start.

Mirrors `schemas/snapshots/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A part of the scheduler's state of one partition, as it was after one event."""

    partition: int
    pool: str
    seq: int
    journal_offset: int
    format: str
    part: int
    parts: int
    pools: tuple[str, ...]
    sha256: str
    taken_at: datetime
    state: bytes
