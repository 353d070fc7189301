"""All tables of the read models, which facts change which, and the version of it all.

Never migrates: a database of another version is thrown away and built again from the journal.
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from events import registry
from events.facts import (
    BenchChecksRecorded,
    ClockJumped,
    InputSetAside,
    InputsRead,
    InputsReset,
    RecordQuarantined,
    TeardownRequested,
    TopicsBound,
)
from events.log import Position
from events.message import EventMessage
from events.shared import EventMeta
from projections import (
    benches,
    clock,
    commands,
    dead_letters,
    executions,
    policies,
    reservations,
    workers,
)

REVISION = 2
"""To be raised when the same events lead to other rows without a change of the tables."""

_META_TABLES = """
CREATE TABLE about (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE marks (
    partition INTEGER PRIMARY KEY,
    last_offset INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    slack INTEGER NOT NULL,
    skipped INTEGER NOT NULL
);
"""
_MODELS = (benches, policies, reservations, executions, workers, dead_letters)
TABLES = "\n".join([_META_TABLES, *(model.TABLES for model in _MODELS), commands.TABLES])
NO_ROWS = (
    TeardownRequested,
    InputsRead,
    BenchChecksRecorded,
    TopicsBound,
    InputsReset,
    RecordQuarantined,
)
"""Facts that no read model shows. A test proves that every fact is here or applied."""

Apply = Callable[[sqlite3.Connection, EventMeta, Any], None]


def _dispatch(tables: Iterable[Mapping[type, Apply]]) -> Mapping[type, tuple[Apply, ...]]:
    found: defaultdict[type, tuple[Apply, ...]] = defaultdict(tuple)
    for table in tables:
        for kind, apply in table.items():
            found[kind] += (apply,)
    return dict(found)


APPLY = _dispatch(model.APPLY for model in _MODELS)
OF_PARTITION = (InputSetAside, ClockJumped)
"""Facts of the partition and not of a pool: `apply_decision` knows them."""


def apply_decision(
    db: sqlite3.Connection, partition: int, events: Iterable[tuple[int, EventMessage]]
) -> None:
    """Change the rows as the events of one decision say. The caller holds the transaction."""
    first: EventMessage | None = None
    last = Position(partition, -1)
    for offset, message in events:
        body = message.body
        if isinstance(body, InputSetAside):
            commands.record_aside(db, message.meta, body, Position(partition, offset))
        elif isinstance(body, ClockJumped):
            clock.apply(db, partition, body)
        if first is None and commands.is_of_command(message):
            first = message
        last = Position(partition, offset)
        for apply in APPLY.get(type(body), ()):
            apply(db, message.meta, body)
    if first is not None:
        commands.record(db, first, last)


def version() -> str:
    """Return what a database must have been written by to be gone on with.

    It changes with the tables, with `REVISION`, and with the schemas that can be read: an event
    that was skipped as unknown must be applied once it is known.
    """
    known = ",".join(f"{published.schema_id}" for published in registry.published())
    return hashlib.sha256(f"{REVISION}\n{TABLES}\n{known}".encode()).hexdigest()


def fingerprint(db: sqlite3.Connection) -> str:
    """Return the sha256 of all rows of the read models and of how far they go.

    Two databases with the same fingerprint show the same, however they were filled.
    """
    digest = hashlib.sha256()
    names = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'about' ORDER BY name"
    )
    for (table,) in names.fetchall():
        columns = db.execute(f"PRAGMA table_info({table})").fetchall()
        keys = [name for _, name, _, _, _, place in sorted(columns, key=lambda c: c[5]) if place]
        rows = db.execute(f"SELECT * FROM {table} ORDER BY {', '.join(keys)}")  # noqa: S608
        digest.update(table.encode())
        for row in rows:
            digest.update(repr(row).encode())
    return digest.hexdigest()
