"""What a jump of the clock that stamps inputs moves: the times that live things are measured by.

It is the partition's: of every pool that had a command accepted in it. Back, nothing moves.
"""

import sqlite3
from datetime import timedelta

from events.facts import ClockJumped

_OF_PARTITION = "pool IN (SELECT pool FROM commands WHERE partition = :partition"
_OF_PARTITION += " AND status = 'accepted')"
_MOVED = (
    "UPDATE reservations SET lease_until = min(lease_until + :by, :latest),"
    " wait_until = min(wait_until + :by, :latest) WHERE ended_at IS NULL AND ",
    "UPDATE executions SET wait_until = min(wait_until + :by, :latest),"
    " started_at = min(started_at + :by, :latest) WHERE status <> 'finished' AND ",
    "UPDATE attempts SET started_at = min(started_at + :by, :latest)"
    " WHERE finished_at IS NULL AND ",
)
_LATEST = 253_402_300_799_999_999
"""The last microsecond of the year 9999: later than that no time can be shown."""


def apply(db: sqlite3.Connection, partition: int, event: ClockJumped) -> None:
    """Move the times of what is live in `partition`."""
    if event.by_s <= 0:
        return
    by_us = timedelta(seconds=event.by_s) // timedelta(microseconds=1)
    given = {"by": by_us, "latest": _LATEST, "partition": partition}
    for statement in _MOVED:
        db.execute(statement + _OF_PARTITION, given)
