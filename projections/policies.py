"""The rule of each pool for sick benches. Never decides: it shows what was."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from events import facts
from events.shared import EventMeta, HealthPolicy

TABLES = """
CREATE TABLE health_policies (
    pool TEXT PRIMARY KEY,
    errors_max INTEGER NOT NULL,
    window_s REAL NOT NULL
) WITHOUT ROWID;
"""


def _set(db: sqlite3.Connection, meta: EventMeta, event: facts.HealthPolicySet) -> None:
    rule = event.health
    db.execute(
        "INSERT OR REPLACE INTO health_policies VALUES (?, ?, ?)",
        (meta.pool, rule.errors_max, rule.window_s),
    )


def health_policies(db: sqlite3.Connection) -> Mapping[str, HealthPolicy]:
    """Return the rule of every pool that was given one."""
    rows = db.execute("SELECT pool, errors_max, window_s FROM health_policies").fetchall()
    return {
        pool: HealthPolicy(errors_max=errors_max, window_s=window_s)
        for pool, errors_max, window_s in rows
    }


APPLY: Mapping[type, Any] = {facts.HealthPolicySet: _set}
