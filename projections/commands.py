"""The outcome of each command: what the first event that it caused says. Never guesses one."""

import sqlite3
from collections.abc import Mapping

from events import facts
from events.log import Position
from events.message import EventMessage
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
    db.execute(
        "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            meta.causation_id,
            meta.pool,
            *outcome,
            micros(meta.occurred_at),
            meta.request_hash,
            last.partition,
            last.offset,
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
