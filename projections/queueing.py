"""Where an ask stands in its queue: by priority, then age, as the scheduler serves. Read only."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COUNTED_ASKS_MAX = 3
"""Up to so many asks of a queue are placed by counting who is before; more, by listing it once."""

_SHARED = (
    "SELECT {what} FROM reservations WHERE status = 'queued' AND pool = :pool {before}",
    "SELECT {what} FROM executions WHERE status = 'queued' AND pool = :pool"
    " AND reservation_id IS NULL {before}",
)
_OWN = (
    "SELECT {what} FROM executions WHERE status = 'queued' AND pool = :pool"
    " AND reservation_id = :reservation_id {before}",
)
_BEFORE = (
    "AND priority > :priority",
    "AND priority = :priority AND age < :age",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A reservation or an execution that waits. In a pool, no two have the same `age`."""

    pool: str
    reservation_id: str | None
    """Executions inside a reservation wait for its benches alone; else None: for the pool's."""
    priority: int
    age: int


def queue_positions(db: sqlite3.Connection, asks: Iterable[Ask]) -> Mapping[Ask, int]:
    """Return the place of each ask in its queue; the next to be served has 1."""
    queues: defaultdict[tuple[str, str | None], list[Ask]] = defaultdict(list)
    for ask in asks:
        queues[ask.pool, ask.reservation_id].append(ask)
    found: dict[Ask, int] = {}
    for same_queue in queues.values():
        if len(same_queue) <= COUNTED_ASKS_MAX:
            found |= {ask: _count_before(db, ask) + 1 for ask in same_queue}
        else:
            found |= _list(db, same_queue)
    return found


def _parameters(ask: Ask) -> Mapping[str, str | int | None]:
    return {
        "pool": ask.pool,
        "reservation_id": ask.reservation_id,
        "priority": ask.priority,
        "age": ask.age,
    }


def _count_before(db: sqlite3.Connection, ask: Ask) -> int:
    queries = (
        query.format(what="count(*)", before=before)
        for query in (_SHARED if ask.reservation_id is None else _OWN)
        for before in _BEFORE
    )
    return sum(db.execute(query, _parameters(ask)).fetchone()[0] for query in queries)


def _list(db: sqlite3.Connection, asks: list[Ask]) -> Mapping[Ask, int]:
    queries = _SHARED if asks[0].reservation_id is None else _OWN
    parameters = _parameters(asks[0])
    waiting = sorted(
        (-priority, age)
        for query in queries
        for priority, age in db.execute(query.format(what="priority, age", before=""), parameters)
    )
    places = {key: place for place, key in enumerate(waiting, start=1)}
    return {ask: places[-ask.priority, ask.age] for ask in asks}
