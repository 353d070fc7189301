"""Inputs that nobody could take and executions out of retries, kept for an operator.

Mirrors `schemas/dlq/`; the meaning and unit of each field is written there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What was set aside, whole or cut to what a letter takes, with the reason."""

    source_topic: str
    source_partition: int
    source_offset: int
    source_timestamp: datetime
    key: bytes | None = None
    value: bytes | None = None
    headers: Mapping[str, bytes]
    error: str
    stack: str
    found_by: str
    found_at: datetime
    kind: str = "record"
    pool: str = ""
    execution_id: str | None = None
    whole_bytes: int | None = None
    whole_sha256: str = ""
