"""What can be asked of the read models; each answer is of one moment. Reads only."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from events.shared import Grant
from projections import cursors
from projections.execution_queries import artifacts, cases, execution, executions
from projections.filters import Filter
from projections.queueing import Ask, queue_positions
from projections.rows import (
    BenchFilter,
    BenchRow,
    CommandRow,
    Page,
    RefusedLife,
    ReservationFilter,
    ReservationRow,
    Slice,
    WorkerFilter,
    WorkerRow,
)
from projections.values import moment, moment_or_none, of_text
from projections.waiting import Waiting

__all__ = [
    "artifacts",
    "bench",
    "benches",
    "cases",
    "command",
    "execution",
    "executions",
    "reservation",
    "reservations",
    "worker",
    "workers",
]

Row = tuple[Any, ...]

_COMMAND = (
    "SELECT id, status, type, subject_id, code, reason, at, request_hash, partition, last_offset"
    " FROM commands WHERE id = ? ORDER BY status = 'set_aside', at, pool LIMIT 1"
)
_BENCH = (
    "SELECT pool, name, labels, adapter, config, steps, state, fence, holder_kind, holder_id,"
    " reason, since, quarantined_by FROM benches"
)
_WORKER = (
    "SELECT worker, pool, epoch, state, adapters, benches, slots, (SELECT count(*) FROM attempts"
    " WHERE attempts.pool = workers.pool AND attempts.worker = workers.worker"
    " AND finished_at IS NULL), version, since, reason, life, host, refused_host,"
    " refused_reason, refused_at FROM workers"
)
_RESERVATION = (
    "SELECT id, pool, status, owner, selectors, priority, age, duration_s, benches, requested_at,"
    " granted_at, lease_until, wait_until, ended_at, code, reason FROM reservations"
)
_LIVE_RESERVATION_WORDS = frozenset({"queued", "granted"})


def command(db: sqlite3.Connection, command_id: str) -> CommandRow | None:
    """Return the outcome of a command; None: none is known."""
    row = db.execute(_COMMAND, (command_id,)).fetchone()
    if row is None:
        return None
    identity, status, kind, subject_id, code, reason, at, request_hash, partition, offset = row
    return CommandRow(
        id=identity,
        status=status,
        type=kind,
        subject_id=subject_id,
        code=code,
        reason=reason,
        at=moment(at),
        request_hash=request_hash,
        partition=partition,
        offset=offset,
    )


def bench(db: sqlite3.Connection, pool: str, name: str) -> BenchRow | None:
    """Return one bench; None: there is none."""
    row = db.execute(f"{_BENCH} WHERE pool = ? AND name = ?", (pool, name)).fetchone()
    return None if row is None else _bench(row)


def benches(db: sqlite3.Connection, which: BenchFilter, part: Slice) -> Page[BenchRow]:
    """Return benches by pool and name."""
    where = Filter().equal("pool", which.pool).any_of("state", which.states)
    if part.cursor is not None:
        where.after(("pool", "name"), cursors.decode("benches", part.cursor, (str, str)))
    rows = db.execute(f"{_BENCH} {where.text} ORDER BY pool, name", where.values)
    found: list[BenchRow] = []
    for row in rows:
        if which.selector.matches(of_text(row[2])):
            found.append(_bench(row))
            if len(found) > part.limit:
                break
    rows.close()
    if len(found) <= part.limit:
        return Page(found)
    last = found[part.limit - 1]
    return Page(found[: part.limit], cursors.encode("benches", (last.pool, last.name)))


def _bench(row: Row) -> BenchRow:
    pool, name, labels, adapter, config, steps, state, fence = row[:8]
    holder_kind, holder_id, reason, since, quarantined_by = row[8:]
    return BenchRow(
        pool=pool,
        name=name,
        labels=of_text(labels),
        adapter=adapter,
        config=config,
        steps=steps,
        state=state,
        fence=fence,
        holder_kind=holder_kind,
        holder_id=holder_id,
        reason=reason,
        since=moment(since),
        quarantined_by=quarantined_by,
    )


def worker(db: sqlite3.Connection, pool: str, name: str) -> WorkerRow | None:
    """Return one worker; None: there never was one."""
    row = db.execute(f"{_WORKER} WHERE pool = ? AND worker = ?", (pool, name)).fetchone()
    return None if row is None else _worker(row)


def workers(db: sqlite3.Connection, which: WorkerFilter, part: Slice) -> Page[WorkerRow]:
    """Return workers by pool and id."""
    where = Filter().equal("pool", which.pool).any_of("state", which.states)
    if part.cursor is not None:
        where.after(("pool", "worker"), cursors.decode("workers", part.cursor, (str, str)))
    query = f"{_WORKER} {where.text} ORDER BY pool, worker LIMIT ?"
    rows = db.execute(query, (*where.values, part.limit + 1)).fetchall()
    found = [_worker(row) for row in rows[: part.limit]]
    if len(rows) <= part.limit:
        return Page(found)
    return Page(found, cursors.encode("workers", (found[-1].pool, found[-1].worker)))


def _worker(row: Row) -> WorkerRow:
    name, pool, epoch, state, adapters, benches_, slots, used, version, since, reason = row[:11]
    life, host, refused_host, refused_reason, refused_at = row[11:]
    return WorkerRow(
        worker=name,
        pool=pool,
        epoch=epoch,
        state=state,
        adapters=tuple(of_text(adapters)),
        benches=tuple(of_text(benches_)),
        slots=slots,
        slots_used=used,
        version=version,
        since=moment(since),
        reason=reason,
        life=life,
        host=host,
        refused=None
        if refused_at is None
        else RefusedLife(host=refused_host, reason=refused_reason, at=moment(refused_at)),
    )


def reservation(db: sqlite3.Connection, reservation_id: str) -> ReservationRow | None:
    """Return one reservation; None: there is none."""
    query = f"{_RESERVATION} WHERE id = ? ORDER BY requested_at, pool LIMIT 1"
    found = _reservations(db, db.execute(query, (reservation_id,)).fetchall())
    return found[0] if found else None


def reservations(
    db: sqlite3.Connection, which: ReservationFilter, part: Slice
) -> Page[ReservationRow]:
    """Return reservations, newest first."""
    where = Filter().equal("pool", which.pool).equal("owner", which.owner)
    where.any_of("status", which.statuses)
    if which.statuses and _LIVE_RESERVATION_WORDS.issuperset(which.statuses):
        where.holds("ended_at IS NULL")
    if part.cursor is not None:
        key = cursors.decode("reservations", part.cursor, (int, str, str))
        where.before(("requested_at", "id", "pool"), key)
    query = f"{_RESERVATION} {where.text} ORDER BY requested_at DESC, id DESC, pool DESC LIMIT ?"
    rows = db.execute(query, (*where.values, part.limit + 1)).fetchall()
    found = _reservations(db, rows[: part.limit])
    if len(rows) <= part.limit:
        return Page(found)
    last = rows[part.limit - 1]
    return Page(found, cursors.encode("reservations", (last[9], last[0], last[1])))


def _reservations(db: sqlite3.Connection, rows: Sequence[Row]) -> list[ReservationRow]:
    asks = {(row[0], row[1]): Ask(row[1], None, row[5], row[6]) for row in rows if _waits(row)}
    places = queue_positions(db, asks.values())
    waiting = Waiting(db)
    found: list[ReservationRow] = []
    for row in rows:
        each = _reservation(row, places[asks[row[0], row[1]]] if _waits(row) else None)
        why = waiting.why(each.pool, each.selectors) if _waits(row) else ""
        found.append(replace(each, reason=why) if why else each)
    return found


def _waits(row: Row) -> bool:
    return bool(row[2] == "queued")


def _reservation(row: Row, queue_position: int | None) -> ReservationRow:
    identity, pool, status, owner, selectors, priority, _, duration_s, grants = row[:9]
    requested_at, granted_at, lease_until, wait_until, ended_at, code, reason = row[9:]
    return ReservationRow(
        id=identity,
        pool=pool,
        status=status,
        owner=owner,
        selectors=tuple(of_text(selectors)),
        priority=priority,
        duration_s=duration_s,
        benches=tuple(Grant(bench=name, fence=fence) for name, fence in of_text(grants)),
        requested_at=moment(requested_at),
        granted_at=moment_or_none(granted_at),
        lease_until=moment_or_none(lease_until),
        wait_until=moment_or_none(wait_until),
        ended_at=moment_or_none(ended_at),
        code=code,
        reason=reason,
        queue_position=queue_position,
    )
