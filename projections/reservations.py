"""The reservations, each with its whole life. Never decides: it shows what was."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from events import facts
from events.shared import EventMeta
from projections.values import micros, micros_or_none, text_of

TABLES = """
CREATE TABLE reservations (
    id TEXT NOT NULL,
    pool TEXT NOT NULL,
    status TEXT NOT NULL,
    owner TEXT NOT NULL,
    selectors TEXT NOT NULL,
    priority INTEGER NOT NULL,
    age INTEGER NOT NULL,
    duration_s REAL NOT NULL,
    benches TEXT NOT NULL DEFAULT '[]',
    requested_at INTEGER NOT NULL,
    granted_at INTEGER,
    lease_until INTEGER,
    wait_until INTEGER,
    ended_at INTEGER,
    code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id, pool)
) WITHOUT ROWID;
CREATE INDEX reservations_by_age ON reservations (requested_at, id, pool);
CREATE INDEX reservations_by_pool ON reservations (pool, requested_at, id);
CREATE INDEX reservations_by_owner ON reservations (owner, requested_at, id, pool);
CREATE INDEX reservations_live ON reservations (requested_at, id, pool) WHERE ended_at IS NULL;
CREATE INDEX reservations_queue ON reservations (pool, priority DESC, age)
    WHERE status = 'queued';
"""
"""`age` is the `seq` of the request: the order of service among asks of the same priority."""


def _requested(db: sqlite3.Connection, meta: EventMeta, event: facts.ReservationRequested) -> None:
    db.execute(
        "INSERT OR IGNORE INTO reservations (id, pool, status, owner, selectors, priority, age,"
        " duration_s, requested_at, wait_until) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
        (
            event.reservation_id,
            meta.pool,
            event.owner,
            text_of(event.selectors),
            event.priority,
            meta.seq,
            event.duration_s,
            micros(meta.occurred_at),
            micros_or_none(event.wait_until),
        ),
    )


def _granted(db: sqlite3.Connection, meta: EventMeta, event: facts.ReservationGranted) -> None:
    grants = text_of(tuple([grant.bench, grant.fence] for grant in event.grants))
    db.execute(
        "UPDATE reservations SET status = 'granted', benches = ?, granted_at = ?, lease_until = ?"
        " WHERE id = ? AND pool = ?",
        (
            grants,
            micros(meta.occurred_at),
            micros(event.lease_until),
            event.reservation_id,
            meta.pool,
        ),
    )


def _extended(db: sqlite3.Connection, meta: EventMeta, event: facts.ReservationExtended) -> None:
    db.execute(
        "UPDATE reservations SET lease_until = ? WHERE id = ? AND pool = ?",
        (micros(event.lease_until), event.reservation_id, meta.pool),
    )


def _ended(
    db: sqlite3.Connection,
    meta: EventMeta,
    event: facts.ReservationReleased
    | facts.ReservationExpired
    | facts.ReservationCancelled
    | facts.ReservationRevoked,
) -> None:
    db.execute(
        "UPDATE reservations SET status = ?, ended_at = ?, code = ?, reason = ?"
        " WHERE id = ? AND pool = ?",
        (
            _END_WORDS[type(event)],
            micros(meta.occurred_at),
            event.code,
            event.reason,
            event.reservation_id,
            meta.pool,
        ),
    )


_END_WORDS: Mapping[type, str] = {
    facts.ReservationReleased: "released",
    facts.ReservationExpired: "expired",
    facts.ReservationCancelled: "cancelled",
    facts.ReservationRevoked: "revoked",
}

APPLY: Mapping[type, Any] = {
    facts.ReservationRequested: _requested,
    facts.ReservationGranted: _granted,
    facts.ReservationExtended: _extended,
    facts.ReservationReleased: _ended,
    facts.ReservationExpired: _ended,
    facts.ReservationCancelled: _ended,
    facts.ReservationRevoked: _ended,
}
