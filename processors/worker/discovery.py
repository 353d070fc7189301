"""Finds the pools there are, from the journal: for a worker that serves whatever comes.

Never decides which pools to serve: that is the role's choice.
"""

from collections.abc import AsyncIterator

from events.codec import decode_event
from events.errors import LogUnavailable, Undecodable
from events.log import Log, Partition
from events.topics import Topics

RECORDS_MAX = 2_000
WAIT_S = 1.0


async def pools(log: Log, topics: Topics) -> AsyncIterator[str]:
    """Yield the name of each pool once, those of the past first, then each as it appears."""
    count = await log.partitions(topics.events)
    partitions = [Partition(topics.events, number) for number in range(count)]
    reader = await log.open_reader(await log.begins(partitions))
    known: set[str] = set()
    try:
        while True:
            try:
                records = await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S)
            except LogUnavailable:
                continue
            for record in records:
                if record.headers.get("ce_type") == b"BenchRegistered":
                    pool = _pool_of(record.value)
                    if pool and pool not in known:
                        known.add(pool)
                        yield pool
    finally:
        await reader.close()


def _pool_of(value: bytes | None) -> str:
    """Return the pool of a record; empty: it is none of ours, whatever it is called."""
    try:
        return decode_event(value).meta.pool
    except Undecodable:
        return ""
