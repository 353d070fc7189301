"""The workers of each pool and the life each is in. Never decides: it shows what was."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from events import facts
from events.shared import EventMeta
from projections.values import micros, text_of

TABLES = """
CREATE TABLE workers (
    pool TEXT NOT NULL,
    worker TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    adapters TEXT NOT NULL,
    benches TEXT NOT NULL,
    slots INTEGER NOT NULL,
    version TEXT NOT NULL,
    since INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    life TEXT NOT NULL DEFAULT '',
    host TEXT NOT NULL DEFAULT '',
    refused_host TEXT NOT NULL DEFAULT '',
    refused_reason TEXT NOT NULL DEFAULT '',
    refused_at INTEGER,
    PRIMARY KEY (pool, worker)
) WITHOUT ROWID;
"""


def _registered(db: sqlite3.Connection, meta: EventMeta, event: facts.WorkerRegistered) -> None:
    db.execute(
        "INSERT OR REPLACE INTO workers (pool, worker, epoch, state, adapters, benches, slots,"
        " version, since, life, host) VALUES (?, ?, ?, 'online', ?, ?, ?, ?, ?, ?, ?)",
        (
            meta.pool,
            event.worker,
            event.epoch,
            text_of(event.adapters),
            text_of(event.benches),
            event.slots,
            event.version,
            micros(meta.occurred_at),
            event.life,
            event.host,
        ),
    )


def _refused(db: sqlite3.Connection, meta: EventMeta, event: facts.WorkerRefused) -> None:
    """Show the last process that was turned away, for as long as the life that has the id."""
    db.execute(
        "UPDATE workers SET refused_host = ?, refused_reason = ?, refused_at = ?"
        " WHERE pool = ? AND worker = ?",
        (event.host, event.reason, micros(meta.occurred_at), meta.pool, event.worker),
    )


def _changed(
    db: sqlite3.Connection,
    meta: EventMeta,
    event: facts.WorkerDrained | facts.WorkerGone | facts.WorkerLost,
) -> None:
    """Words of an older life change nothing of the one that is shown."""
    db.execute(
        "UPDATE workers SET state = ?, reason = ?, since = ?"
        " WHERE pool = ? AND worker = ? AND epoch = ?",
        (
            _STATE_WORDS[type(event)],
            event.reason,
            micros(meta.occurred_at),
            meta.pool,
            event.worker,
            event.epoch,
        ),
    )


def _suspended(db: sqlite3.Connection, meta: EventMeta, event: facts.WorkerSuspended) -> None:
    """A worker that is leaving is shown as leaving, whatever else is wrong with it."""
    _move(db, meta, event, "suspended", event.reason, of=("online", "suspended"))


def _resumed(db: sqlite3.Connection, meta: EventMeta, event: facts.WorkerResumed) -> None:
    _move(db, meta, event, "online", "", of=("suspended",))


def _move(
    db: sqlite3.Connection,
    meta: EventMeta,
    event: facts.WorkerSuspended | facts.WorkerResumed,
    state: str,
    reason: str,
    *,
    of: tuple[str, ...],
) -> None:
    marks = ", ".join("?" * len(of))
    db.execute(
        "UPDATE workers SET state = ?, reason = ?, since = ?"  # noqa: S608 - marks alone.
        f" WHERE pool = ? AND worker = ? AND epoch = ? AND state IN ({marks})",
        (state, reason, micros(meta.occurred_at), meta.pool, event.worker, event.epoch, *of),
    )


_STATE_WORDS: Mapping[type, str] = {
    facts.WorkerDrained: "draining",
    facts.WorkerGone: "gone",
    facts.WorkerLost: "lost",
}

APPLY: Mapping[type, Any] = {
    facts.WorkerRegistered: _registered,
    facts.WorkerRefused: _refused,
    facts.WorkerDrained: _changed,
    facts.WorkerGone: _changed,
    facts.WorkerLost: _changed,
    facts.WorkerSuspended: _suspended,
    facts.WorkerResumed: _resumed,
}
