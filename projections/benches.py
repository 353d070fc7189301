"""The benches: who holds each, and why it cannot be had. Never decides: it shows what was."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from events import facts
from events.shared import EventMeta
from projections.values import micros, text_of

TABLES = """
CREATE TABLE benches (
    pool TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    adapter TEXT NOT NULL,
    config TEXT NOT NULL,
    steps TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    holder_kind TEXT,
    holder_id TEXT,
    is_online INTEGER NOT NULL DEFAULT 0,
    offline_reason TEXT NOT NULL,
    is_cleaning INTEGER NOT NULL DEFAULT 0,
    cleaning_reason TEXT NOT NULL DEFAULT '',
    is_quarantined INTEGER NOT NULL DEFAULT 0,
    quarantine_reason TEXT NOT NULL DEFAULT '',
    quarantined_by TEXT,
    PRIMARY KEY (pool, name)
) WITHOUT ROWID;
CREATE INDEX benches_by_state ON benches (state, pool, name);
"""

_NEVER_SERVED = "no worker has served it yet"
_SETTLE = """
UPDATE benches SET (state, reason, since) = (
    SELECT now.state, now.reason, iif(now.state = benches.state, benches.since, :at) FROM (
        SELECT
            CASE WHEN is_quarantined THEN 'quarantined' WHEN is_cleaning THEN 'cleaning'
                WHEN holder_id IS NOT NULL THEN 'held' WHEN is_online THEN 'idle'
                ELSE 'offline' END AS state,
            CASE WHEN is_quarantined THEN quarantine_reason WHEN is_cleaning THEN cleaning_reason
                WHEN holder_id IS NULL AND NOT is_online THEN offline_reason
                ELSE '' END AS reason
    ) AS now
) WHERE pool = :pool AND name = :name
"""
"""The state word follows from what is true of a bench; the worst that is true is shown.

A bench that is held stays `held` while no worker serves it: `idle` always means it can be had.
"""


def _change(db: sqlite3.Connection, meta: EventMeta, bench: str, change: str, *args: Any) -> None:
    """Apply `change`, an assignment written in this file, and bring the state word up to date."""
    statement = f"UPDATE benches SET {change} WHERE pool = ? AND name = ?"  # noqa: S608
    db.execute(statement, (*args, meta.pool, bench))
    db.execute(_SETTLE, {"at": micros(meta.occurred_at), "pool": meta.pool, "name": bench})


def _registered(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchRegistered) -> None:
    spec = event.bench
    db.execute(
        "INSERT INTO benches (pool, name, labels, adapter, config, steps, state, reason, since,"
        " offline_reason) VALUES (?, ?, ?, ?, ?, ?, 'offline', ?, ?, ?)"
        " ON CONFLICT (pool, name) DO UPDATE SET labels = excluded.labels,"
        " adapter = excluded.adapter, config = excluded.config, steps = excluded.steps",
        (
            meta.pool,
            spec.name,
            text_of(spec.labels),
            spec.adapter,
            spec.config,
            text_of(tuple(asdict(policy) for policy in spec.steps)),
            _NEVER_SERVED,
            micros(meta.occurred_at),
            _NEVER_SERVED,
        ),
    )


def _online(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchOnline) -> None:
    _change(db, meta, event.bench, "is_online = 1, offline_reason = ''")


def _offline(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchOffline) -> None:
    _change(db, meta, event.bench, "is_online = 0, offline_reason = ?", event.reason)


def _held(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchHeld) -> None:
    change = "fence = ?, holder_kind = ?, holder_id = ?"
    _change(db, meta, event.bench, change, event.fence, event.holder_kind, event.holder_id)


def _assigned(db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionAssigned) -> None:
    """An attempt inside a reservation raises the fence of a bench that stays held."""
    statement = "UPDATE benches SET fence = ? WHERE pool = ? AND name = ?"
    db.execute(statement, (event.fence, meta.pool, event.bench))


def _freed(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchFreed) -> None:
    _change(db, meta, event.bench, "holder_kind = NULL, holder_id = NULL")


def _cleaning(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchCleaning) -> None:
    _change(db, meta, event.bench, "is_cleaning = 1, cleaning_reason = ?", event.reason)


def _cleaned(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchCleaned) -> None:
    _change(db, meta, event.bench, "is_cleaning = 0, cleaning_reason = ''")


def _quarantined(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchQuarantined) -> None:
    change = "is_quarantined = 1, quarantine_reason = ?, quarantined_by = ?"
    _change(db, meta, event.bench, change, event.reason, meta.actor)


def _restored(db: sqlite3.Connection, meta: EventMeta, event: facts.BenchRestored) -> None:
    change = (
        "is_quarantined = 0, quarantine_reason = '', quarantined_by = NULL,"
        " is_cleaning = 0, cleaning_reason = ''"
    )
    _change(db, meta, event.bench, change)


APPLY: Mapping[type, Any] = {
    facts.BenchRegistered: _registered,
    facts.BenchOnline: _online,
    facts.BenchOffline: _offline,
    facts.BenchHeld: _held,
    facts.ExecutionAssigned: _assigned,
    facts.BenchFreed: _freed,
    facts.BenchCleaning: _cleaning,
    facts.BenchCleaned: _cleaned,
    facts.BenchQuarantined: _quarantined,
    facts.BenchRestored: _restored,
}
