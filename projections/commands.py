"""The outcome of each command: what the first event that it caused says. Never guesses one."""

import sqlite3
from collections.abc import Mapping

from events import facts
from events.log import Position
from events.message import EventMessage
from events.shared import EventMeta
from projections.values import micros

TABLES = """
CREATE TABLE commands (
    id TEXT NOT NULL,
    pool TEXT NOT NULL,
    status TEXT NOT NULL,
    type TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    request_hash TEXT NOT NULL,
    partition INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    PRIMARY KEY (id, pool)
) WITHOUT ROWID;
"""

SET_ASIDE = "set_aside"
"""Status of a command that could not be decided: it changed nothing, and is a dead letter."""
COMMAND_OF: Mapping[type, str] = {
    facts.BenchRegistered: "ApplyBenches",
    facts.BenchQuarantined: "QuarantineBench",
    facts.BenchRestored: "RestoreBench",
    facts.ReservationRequested: "RequestReservation",
    facts.ReservationExtended: "ExtendReservation",
    facts.ReservationReleased: "ReleaseReservation",
    facts.ReservationCancelled: "ReleaseReservation",
    facts.ExecutionSubmitted: "SubmitExecution",
    facts.ExecutionCancelRequested: "CancelExecution",
    facts.ExecutionFinished: "CancelExecution",
    facts.WorkerDrained: "DrainWorker",
    facts.WorkerResumed: "ResumeWorker",
    facts.DeadLetterReplayed: "ReplayDeadLetter",
    facts.DeadLetterDiscarded: "DiscardDeadLetter",
}
"""Which command is accepted with which fact."""


def is_of_command(message: EventMessage) -> bool:
    """Return True if a command led to `message`; reports and ticks leave no request hash."""
    return bool(message.meta.request_hash and message.meta.causation_id)


def command_of(message: EventMessage) -> str:
    """Return the id of the command whose outcome `message` tells; empty: of none."""
    if isinstance(message.body, facts.InputSetAside):
        return message.body.command_id
    return message.meta.causation_id if is_of_command(message) else ""


def record_aside(
    db: sqlite3.Connection, meta: EventMeta, aside: facts.InputSetAside, at: Position
) -> None:
    """Put down that a command was set aside, if that is what it was and it is not decided.

    A replay may still have it decided: then that is its outcome.
    """
    if not aside.command_id:
        return
    outcome = (SET_ASIDE, "", "", aside.code or SET_ASIDE, aside.error)
    _put(db, aside.command_id, meta, outcome, at, request_hash="")


def record(db: sqlite3.Connection, first: EventMessage, last: Position) -> None:
    """Put down the outcome of the command that led to `first`.

    `last` is where its decision ends: a reader who waits for it sees all that the command did.
    """
    meta, event = first.meta, first.body
    if isinstance(event, facts.CommandRejected):
        outcome = ("rejected", event.command, event.subject_id, event.code, event.reason)
    else:
        kind = COMMAND_OF.get(type(event), type(event).__name__)
        outcome = ("accepted", kind, _subject(event), "", "")
    _put(db, meta.causation_id, meta, outcome, last, request_hash=meta.request_hash)


Outcome = tuple[str, str, str, str, str]
"""Status, type, subject, code and reason."""


def _put(
    db: sqlite3.Connection,
    command_id: str,
    meta: EventMeta,
    outcome: Outcome,
    at: Position,
    *,
    request_hash: str,
) -> None:
    """Put an outcome down; the first stands, but for one that was set aside."""
    db.execute(
        "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " status = excluded.status, type = excluded.type, subject_id = excluded.subject_id,"
        " code = excluded.code, reason = excluded.reason, at = excluded.at,"
        " request_hash = excluded.request_hash, partition = excluded.partition,"
        " last_offset = excluded.last_offset WHERE commands.status = ?",
        (
            command_id,
            meta.pool,
            *outcome,
            micros(meta.occurred_at),
            request_hash,
            at.partition,
            at.offset,
            SET_ASIDE,
        ),
    )


def _subject(event: facts.Event) -> str:
    """Return the id of the thing a command was about."""
    if isinstance(event, facts.BenchRegistered):
        return event.bench.name
    for name in ("execution_id", "reservation_id", "bench", "worker", "letter_id"):
        subject = getattr(event, name, None)
        if isinstance(subject, str):
            return subject
    return ""
