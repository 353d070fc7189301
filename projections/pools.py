"""The pools: how many benches, asks and workers each has, and its rule for sick benches.

Has no table of its own: the counts are taken from the other read models when they are asked for,
so that they can never disagree with them.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from projections.policies import health_policies
from projections.rows import PoolRow

_COUNTS = {
    "reservations_queued": "SELECT pool, count(*) FROM reservations WHERE status = 'queued'"
    " GROUP BY pool",
    "executions_queued": "SELECT pool, count(*) FROM executions WHERE status = 'queued'"
    " GROUP BY pool",
    "executions_active": "SELECT pool, count(*) FROM executions"
    " WHERE status <> 'finished' AND status <> 'queued' GROUP BY pool",
    "workers": "SELECT pool, count(*) FROM workers WHERE state NOT IN ('lost', 'gone')"
    " GROUP BY pool",
}


def pools(db: sqlite3.Connection) -> Sequence[PoolRow]:
    """Return every pool that ever had a bench or a worker, by name."""
    names = db.execute("SELECT pool FROM benches UNION SELECT pool FROM workers ORDER BY 1")
    states: dict[str, dict[str, int]] = defaultdict(dict)
    counted = db.execute("SELECT pool, state, count(*) FROM benches GROUP BY pool, state")
    for pool, state, count in counted.fetchall():
        states[pool][state] = count
    counts = {name: dict(db.execute(query).fetchall()) for name, query in _COUNTS.items()}
    rules = health_policies(db)
    return [
        PoolRow(
            pool=name,
            benches_by_state=states[name],
            reservations_queued=counts["reservations_queued"].get(name, 0),
            executions_queued=counts["executions_queued"].get(name, 0),
            executions_active=counts["executions_active"].get(name, 0),
            workers=counts["workers"].get(name, 0),
            health=rules.get(name),
        )
        for (name,) in names.fetchall()
    ]
