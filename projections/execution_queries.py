"""What can be asked of executions, their attempts, cases and artifacts. Reads only."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from events.shared import Totals
from projections import cursors
from projections.filters import Filter
from projections.queueing import Ask, queue_positions
from projections.rows import (
    ArtifactRow,
    AttemptRow,
    CaseRow,
    ExecutionFilter,
    ExecutionRow,
    Page,
    Slice,
    SuiteRow,
)
from projections.stuck import Benches
from projections.values import moment, moment_or_none, of_text

Row = tuple[Any, ...]
Key = tuple[str, str]
"""Execution id and pool."""

_EXECUTION = (
    "SELECT id, pool, status, verdict, code, reason, owner, created_at, started_at, finished_at,"
    " bench, reservation_id, selector, priority, age, retries, retries_on_failure, verdict_by,"
    " is_flaky, exit_code, command, passed, failed, errors, skipped, correlation_id, traceparent,"
    " fault FROM executions"
)
_ATTEMPT = (
    "SELECT execution_id, pool, number, bench, worker, fence, status, step, verdict, code, reason,"
    " exit_code, signal, started_at, finished_at, passed, failed, errors, skipped, fault"
    " FROM attempts"
)
_CASE = (
    "SELECT attempt, suite, classname, name, status, duration_s, message, details, number"
    " FROM cases"
)


def execution(db: sqlite3.Connection, execution_id: str) -> ExecutionRow | None:
    """Return one execution with its attempts; None: there is none."""
    query = f"{_EXECUTION} WHERE id = ? ORDER BY created_at, pool LIMIT 1"
    found = _executions(db, db.execute(query, (execution_id,)).fetchall())
    return found[0] if found else None


def executions(db: sqlite3.Connection, which: ExecutionFilter, part: Slice) -> Page[ExecutionRow]:
    """Return executions with their attempts, newest first."""
    where = Filter().equal("pool", which.pool).equal("owner", which.owner)
    where.any_of("status", which.statuses).any_of("verdict", which.verdicts)
    if which.statuses and "finished" not in which.statuses:
        where.holds("status <> 'finished'")
    if which.verdicts:
        where.holds("verdict IS NOT NULL")
    if part.cursor is not None:
        key = cursors.decode("executions", part.cursor, (int, str, str))
        where.before(("created_at", "id", "pool"), key)
    query = f"{_EXECUTION} {where.text} ORDER BY created_at DESC, id DESC, pool DESC LIMIT ?"
    rows = db.execute(query, (*where.values, part.limit + 1)).fetchall()
    found = _executions(db, rows[: part.limit])
    if len(rows) <= part.limit:
        return Page(found)
    last = rows[part.limit - 1]
    return Page(found, cursors.encode("executions", (last[7], last[0], last[1])))


def _executions(db: sqlite3.Connection, rows: Sequence[Row]) -> list[ExecutionRow]:
    attempts = _attempts(db, [row[0] for row in rows])
    asks: dict[Key, Ask] = {
        (row[0], row[1]): Ask(row[1], row[11], row[13], row[14])
        for row in rows
        if row[2] == "queued"
    }
    places = queue_positions(db, asks.values())
    benches = Benches(db)
    found: list[ExecutionRow] = []
    for row in rows:
        key = (row[0], row[1])
        place = places[asks[key]] if key in asks else None
        stuck = _stuck(benches, row) if key in asks else ""
        found.append(_execution(row, tuple(attempts.get(key, ())), place, stuck))
    return found


def _stuck(benches: Benches, row: Row) -> str:
    pool, reservation_id, selector = row[1], row[11], row[12]
    if reservation_id is None:
        return benches.why_stuck(pool, (selector,))
    return benches.why_stuck_inside(pool, reservation_id, selector)


def _execution(
    row: Row, attempts: tuple[AttemptRow, ...], queue_position: int | None, stuck: str
) -> ExecutionRow:
    identity, pool, status, verdict, code, reason, owner, created_at, started_at = row[:9]
    finished_at, bench, reservation_id, selector, priority, _, retries, on_failure = row[9:17]
    verdict_by, is_flaky, exit_code, command, passed, failed, errors, skipped = row[17:25]
    correlation_id, traceparent, fault = row[25:]
    return ExecutionRow(
        id=identity,
        pool=pool,
        status=status,
        verdict=verdict,
        code=code,
        reason=reason,
        owner=owner,
        created_at=moment(created_at),
        started_at=moment_or_none(started_at),
        finished_at=moment_or_none(finished_at),
        bench=bench,
        reservation_id=reservation_id,
        selector=selector,
        priority=priority,
        retries=retries,
        retries_on_failure=on_failure,
        verdict_by=verdict_by,
        is_flaky=bool(is_flaky),
        exit_code=exit_code,
        command=tuple(of_text(command)),
        totals=Totals(passed=passed, failed=failed, errors=errors, skipped=skipped),
        queue_position=queue_position,
        attempts=attempts,
        correlation_id=correlation_id,
        traceparent=traceparent,
        stuck=stuck,
        fault=fault,
    )


def _attempts(
    db: sqlite3.Connection, execution_ids: Sequence[str]
) -> Mapping[Key, Sequence[AttemptRow]]:
    where = Filter().any_of("execution_id", execution_ids)
    found: defaultdict[Key, list[AttemptRow]] = defaultdict(list)
    if execution_ids:
        query = f"{_ATTEMPT} {where.text} ORDER BY execution_id, pool, number"
        for row in db.execute(query, where.values):
            found[row[0], row[1]].append(_attempt(row))
    return found


def _attempt(row: Row) -> AttemptRow:
    _, _, number, bench, worker, fence, status, step, verdict, code, reason = row[:11]
    exit_code, signal, started_at, finished_at, passed, failed, errors, skipped, fault = row[11:]
    return AttemptRow(
        number=number,
        bench=bench,
        worker=worker,
        fence=fence,
        status=status,
        step=step,
        verdict=verdict,
        code=code,
        reason=reason,
        exit_code=exit_code,
        signal=signal,
        started_at=moment(started_at),
        finished_at=moment_or_none(finished_at),
        totals=Totals(passed=passed, failed=failed, errors=errors, skipped=skipped),
        fault=fault,
    )


def _pool_of(db: sqlite3.Connection, execution_id: str) -> str | None:
    query = "SELECT pool FROM executions WHERE id = ? ORDER BY created_at, pool LIMIT 1"
    row = db.execute(query, (execution_id,)).fetchone()
    return None if row is None else str(row[0])


def _of_execution(pool: str, execution_id: str, attempt: int | None) -> Filter:
    where = Filter().equal("execution_id", execution_id).equal("pool", pool)
    return where if attempt is None else where.is_number("attempt", attempt)


def cases(
    db: sqlite3.Connection, execution_id: str, attempt: int | None, part: Slice
) -> Page[CaseRow]:
    """Return test cases of one attempt, or of all, in the order they were recorded."""
    pool = _pool_of(db, execution_id)
    if pool is None:
        return Page(())
    where = _of_execution(pool, execution_id, attempt)
    if part.cursor is not None:
        key = cursors.decode("cases", part.cursor, (int, int))
        where.after(("attempt", "number"), key)
    query = f"{_CASE} {where.text} ORDER BY attempt, number LIMIT ?"
    rows = db.execute(query, (*where.values, part.limit + 1)).fetchall()
    flaky = _flaky_cases(db, pool, execution_id) if rows else frozenset()
    found = [_case(row, failed_before=row[1:4] in flaky) for row in rows[: part.limit]]
    if len(rows) <= part.limit:
        return Page(found)
    last = rows[part.limit - 1]
    return Page(found, cursors.encode("cases", (last[0], last[8])))


def suites(db: sqlite3.Connection, execution_id: str, attempt: int) -> Sequence[SuiteRow]:
    """Return the suites of an attempt, in the order their first case was recorded."""
    pool = _pool_of(db, execution_id)
    if pool is None:
        return ()
    where = _of_execution(pool, execution_id, attempt)
    rows = db.execute(
        "SELECT suite, min(number), count(*), sum(status = 'failed'), sum(status = 'error'),"  # noqa: S608
        f" sum(status = 'skipped'), sum(duration_s) FROM cases {where.text}"
        " GROUP BY suite ORDER BY min(number)",
        where.values,
    )
    return [
        SuiteRow(
            name=name,
            first=first,
            tests=tests,
            failed=failed,
            errors=errors,
            skipped=skipped,
            duration_s=duration_s,
        )
        for name, first, tests, failed, errors, skipped, duration_s in rows
    ]


def cases_of(
    db: sqlite3.Connection, execution_id: str, attempt: int, suite: str, first: int, limit: int
) -> tuple[Sequence[CaseRow], int]:
    """Return up to `limit` cases of a suite from number `first` on, and the number that follows.

    Whether a case failed in another attempt is not looked up.
    """
    pool = _pool_of(db, execution_id)
    if pool is None:
        return (), first
    where = _of_execution(pool, execution_id, attempt)
    rows = db.execute(
        f"{_CASE} {where.text} AND number >= ? AND suite = ? ORDER BY number LIMIT ?",
        (*where.values, first, suite, limit),
    ).fetchall()
    following = rows[-1][8] + 1 if rows else first
    return [_case(row, failed_before=False) for row in rows], following


def _flaky_cases(db: sqlite3.Connection, pool: str, execution_id: str) -> frozenset[Row]:
    """Return suite, classname and name of the cases that both failed and passed."""
    where = _of_execution(pool, execution_id, None)
    last = db.execute(f"SELECT max(attempt) FROM cases {where.text}", where.values)  # noqa: S608
    if last.fetchone()[0] == 1:
        return frozenset()  # Most executions have one attempt, and a long list comes in many parts.
    rows = db.execute(
        f"SELECT suite, classname, name FROM cases {where.text} AND status <> 'skipped'"  # noqa: S608
        " GROUP BY suite, classname, name"
        " HAVING count(DISTINCT status = 'passed') = 2 AND count(DISTINCT attempt) > 1",
        where.values,
    )
    return frozenset(tuple(row) for row in rows)


def _case(row: Row, *, failed_before: bool) -> CaseRow:
    """Return a case. One that passed has a message only if it failed before, in this attempt."""
    attempt, suite, classname, name, status, duration_s, message, details, _ = row
    return CaseRow(
        attempt=attempt,
        suite=suite,
        classname=classname,
        name=name,
        status=status,
        duration_s=duration_s,
        message=message,
        details=details,
        is_flaky=failed_before or (status == "passed" and message != ""),
    )


def artifacts(
    db: sqlite3.Connection, execution_id: str, attempt: int | None
) -> Sequence[ArtifactRow]:
    """Return the files kept of one attempt, or of all, by attempt, path and kind."""
    pool = _pool_of(db, execution_id)
    if pool is None:
        return ()
    where = _of_execution(pool, execution_id, attempt)
    rows = db.execute(
        "SELECT attempt, path, kind, size_bytes, sha256, uri FROM artifacts"  # noqa: S608
        f" {where.text} ORDER BY attempt, path, kind",
        where.values,
    )
    return [
        ArtifactRow(
            attempt=number, path=path, kind=kind, size_bytes=size_bytes, sha256=sha256, uri=uri
        )
        for number, path, kind, size_bytes, sha256, uri in rows
    ]
