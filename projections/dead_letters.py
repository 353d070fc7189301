"""How dead letters were settled: by whom, when and why. Never decides: the last word is shown.

The letters themselves are on their topic; here is only what became of them.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from events import facts
from events.shared import EventMeta
from projections.rows import SettledRow
from projections.values import micros, moment

TABLES = """
CREATE TABLE dead_letters (
    letter_id TEXT NOT NULL,
    pool TEXT NOT NULL,
    status TEXT NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    replays INTEGER NOT NULL,
    PRIMARY KEY (letter_id, pool)
) WITHOUT ROWID;
"""

_SETTLE = """
INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (letter_id, pool) DO UPDATE SET
    status = excluded.status, actor = excluded.actor, at = excluded.at,
    reason = excluded.reason, replays = replays + excluded.replays
"""
_READ = "SELECT status, actor, at, reason, replays FROM dead_letters WHERE letter_id = ?"


def _replayed(db: sqlite3.Connection, meta: EventMeta, event: facts.DeadLetterReplayed) -> None:
    _settle(db, meta, event, "replayed", 1)


def _discarded(db: sqlite3.Connection, meta: EventMeta, event: facts.DeadLetterDiscarded) -> None:
    _settle(db, meta, event, "discarded", 0)


def _settle(
    db: sqlite3.Connection,
    meta: EventMeta,
    event: facts.DeadLetterReplayed | facts.DeadLetterDiscarded,
    status: str,
    replays: int,
) -> None:
    row = (event.letter_id, meta.pool, status, meta.actor, micros(meta.occurred_at))
    db.execute(_SETTLE, (*row, event.reason, replays))


APPLY: Mapping[type, Any] = {
    facts.DeadLetterReplayed: _replayed,
    facts.DeadLetterDiscarded: _discarded,
}


def settled(db: sqlite3.Connection, letter_ids: Iterable[str]) -> Mapping[str, SettledRow]:
    """Return how each of the letters was settled last; one that is missing is open."""
    found: dict[str, SettledRow] = {}
    for letter_id in letter_ids:
        row = db.execute(f"{_READ} ORDER BY at DESC, pool LIMIT 1", (letter_id,)).fetchone()
        if row is not None:
            status, actor, at, reason, replays = row
            found[letter_id] = SettledRow(
                letter_id=letter_id,
                status=status,
                actor=actor,
                at=moment(at),
                reason=reason,
                replays=replays,
            )
    return found
