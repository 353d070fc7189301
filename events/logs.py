"""Output of tests, in order, by line number; written by workers alone.

Mirrors `schemas/logs/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass
from datetime import datetime

TOO_FAST = "[teo: output is faster than its limit; lines from here on are in log.txt only]"
"""Stands on the log in the place of the first of the lines that were kept back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch:
    """Consecutive lines of one attempt."""

    execution_id: str
    attempt: int
    fence: int
    first_line: int
    at: datetime
    lines: tuple[str, ...]
    stderr_lines: tuple[int, ...]
    is_last: bool
