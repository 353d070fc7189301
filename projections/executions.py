"""The executions with their attempts, cases and artifacts. Never decides: it shows what was."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from events import facts
from events.codes import fault_told
from events.shared import EventMeta
from projections.values import micros, micros_or_none, text_of

TABLES = """
CREATE TABLE executions (
    id TEXT NOT NULL,
    pool TEXT NOT NULL,
    status TEXT NOT NULL,
    verdict TEXT,
    code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    owner TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    wait_until INTEGER,
    bench TEXT,
    reservation_id TEXT,
    selector TEXT NOT NULL,
    priority INTEGER NOT NULL,
    age INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    retries_on_failure INTEGER NOT NULL,
    verdict_by TEXT NOT NULL,
    is_flaky INTEGER NOT NULL DEFAULT 0,
    fault TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    command TEXT NOT NULL,
    passed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    correlation_id TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    PRIMARY KEY (id, pool)
) WITHOUT ROWID;
CREATE INDEX executions_by_age ON executions (created_at, id, pool);
CREATE INDEX executions_by_pool ON executions (pool, created_at, id);
CREATE INDEX executions_by_owner ON executions (owner, created_at, id, pool);
CREATE INDEX executions_by_verdict ON executions (verdict, created_at, id, pool)
    WHERE verdict IS NOT NULL;
CREATE INDEX executions_live ON executions (created_at, id, pool) WHERE status <> 'finished';
CREATE INDEX executions_queue ON executions (pool, reservation_id, priority DESC, age)
    WHERE status = 'queued';
CREATE TABLE attempts (
    execution_id TEXT NOT NULL,
    pool TEXT NOT NULL,
    number INTEGER NOT NULL,
    bench TEXT NOT NULL,
    worker TEXT NOT NULL,
    fence INTEGER NOT NULL,
    status TEXT NOT NULL,
    step TEXT NOT NULL DEFAULT '',
    verdict TEXT,
    code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    fault TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    signal INTEGER,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    passed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, pool, number)
) WITHOUT ROWID;
CREATE INDEX attempts_live ON attempts (pool, worker) WHERE finished_at IS NULL;
CREATE TABLE cases (
    execution_id TEXT NOT NULL,
    pool TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    suite TEXT NOT NULL,
    classname TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    duration_s REAL NOT NULL,
    message TEXT NOT NULL,
    details TEXT NOT NULL,
    PRIMARY KEY (execution_id, pool, attempt, number)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    execution_id TEXT NOT NULL,
    pool TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    uri TEXT NOT NULL,
    PRIMARY KEY (execution_id, pool, attempt, path, kind)
) WITHOUT ROWID;
"""
"""`age` is the `seq` of the submission: the order of service among asks of the same priority."""

STATUS_OF_STEP: Mapping[str, str] = {
    "provision": "provisioning",
    "run": "running",
    "collect": "collecting",
    "teardown": "tearing_down",
}


def _submitted(db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionSubmitted) -> None:
    db.execute(
        "INSERT OR IGNORE INTO executions (id, pool, status, owner, created_at, wait_until,"
        " reservation_id, selector, priority, age, retries, retries_on_failure, verdict_by,"
        " command, correlation_id, traceparent)"
        " VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.execution_id,
            meta.pool,
            event.owner,
            micros(meta.occurred_at),
            micros_or_none(event.wait_until),
            event.reservation_id,
            event.selector,
            event.priority,
            meta.seq,
            event.retries,
            event.retries_on_failure,
            event.run.verdict_by,
            text_of(event.run.command),
            meta.correlation_id,
            meta.traceparent,
        ),
    )


def _assigned(db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionAssigned) -> None:
    at = micros(meta.occurred_at)
    key = (event.execution_id, meta.pool)
    db.execute(
        "UPDATE executions SET status = 'assigned', bench = ?, code = '', reason = '',"
        " started_at = coalesce(started_at, ?) WHERE id = ? AND pool = ?",
        (event.bench, at, *key),
    )
    db.execute(
        "INSERT OR IGNORE INTO attempts (execution_id, pool, number, bench, worker, fence, status,"
        " started_at) VALUES (?, ?, ?, ?, ?, ?, 'assigned', ?)",
        (*key, event.attempt, event.bench, event.worker, event.fence, at),
    )


def _step_started(db: sqlite3.Connection, meta: EventMeta, event: facts.AttemptStepStarted) -> None:
    """A step that is not known here shows as itself: a later version may have more of them."""
    status = STATUS_OF_STEP.get(event.step, event.step)
    db.execute(
        "UPDATE executions SET status = ? WHERE id = ? AND pool = ?",
        (status, event.execution_id, meta.pool),
    )
    db.execute(
        "UPDATE attempts SET status = ?, step = ?"
        " WHERE execution_id = ? AND pool = ? AND number = ?",
        (status, event.step, event.execution_id, meta.pool, event.attempt),
    )


def _cases(db: sqlite3.Connection, meta: EventMeta, event: facts.AttemptCasesRecorded) -> None:
    """Cases carry their place in the attempt, so that a part told twice would not count twice."""
    db.executemany(
        "INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                event.execution_id,
                meta.pool,
                event.attempt,
                number,
                case.suite,
                case.classname,
                case.name,
                case.status,
                case.duration_s,
                case.message,
                case.details,
            )
            for number, case in enumerate(event.cases, start=event.first_case)
        ],
    )


def _attempt_finished(
    db: sqlite3.Connection, meta: EventMeta, event: facts.AttemptFinished
) -> None:
    totals = event.totals
    key = (event.execution_id, meta.pool, event.attempt)
    db.execute(
        "UPDATE attempts SET status = 'finished', verdict = ?, code = ?, reason = ?, fault = ?,"
        " exit_code = ?, signal = ?, finished_at = ?, passed = ?, failed = ?, errors = ?,"
        " skipped = ? WHERE execution_id = ? AND pool = ? AND number = ?",
        (
            event.verdict,
            event.code,
            event.reason,
            fault_told(event.verdict, event.code, event.fault),
            event.exit_code,
            event.signal,
            micros(meta.occurred_at),
            totals.passed,
            totals.failed,
            totals.errors,
            totals.skipped,
            *key,
        ),
    )
    db.executemany(
        "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*key, a.path, a.kind, a.size_bytes, a.sha256, a.uri) for a in event.artifacts],
    )


def _requeued(db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionRequeued) -> None:
    db.execute(
        "UPDATE executions SET status = 'queued', bench = NULL, reason = ?"
        " WHERE id = ? AND pool = ?",
        (event.reason, event.execution_id, meta.pool),
    )


def _cancelling(
    db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionCancelRequested
) -> None:
    db.execute(
        "UPDATE executions SET code = ?, reason = ? WHERE id = ? AND pool = ?",
        (event.code, event.reason, event.execution_id, meta.pool),
    )


def _finished(db: sqlite3.Connection, meta: EventMeta, event: facts.ExecutionFinished) -> None:
    totals = event.totals
    db.execute(
        "UPDATE executions SET status = 'finished', verdict = ?, code = ?, reason = ?,"
        " exit_code = ?, finished_at = ?, passed = ?, failed = ?, errors = ?, skipped = ?,"
        " is_flaky = ?, fault = ? WHERE id = ? AND pool = ?",
        (
            event.verdict,
            event.code,
            event.reason,
            event.exit_code,
            micros(meta.occurred_at),
            totals.passed,
            totals.failed,
            totals.errors,
            totals.skipped,
            event.is_flaky,
            fault_told(event.verdict, event.code, event.fault),
            event.execution_id,
            meta.pool,
        ),
    )


APPLY: Mapping[type, Any] = {
    facts.ExecutionSubmitted: _submitted,
    facts.ExecutionAssigned: _assigned,
    facts.AttemptStepStarted: _step_started,
    facts.AttemptCasesRecorded: _cases,
    facts.AttemptFinished: _attempt_finished,
    facts.ExecutionRequeued: _requeued,
    facts.ExecutionCancelRequested: _cancelling,
    facts.ExecutionFinished: _finished,
}
