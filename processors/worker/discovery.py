"""Finds the pools there are, from the journal: for a worker that serves whatever comes.

Never decides which pools to serve: that is the role's choice.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from events.codec import decode_event
from events.errors import LogUnavailable, Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Record
from events.topics import Topics

RECORDS_MAX = 2_000
WAIT_S = 1.0

logger = structlog.get_logger()


async def pools(log: Log, topics: Topics) -> AsyncGenerator[str, None]:
    """Yield the name of each pool once, those of the past first, then each as it appears.

    A journal that cannot be read now is read again from its start: it may be another one.
    """
    known: set[str] = set()
    while True:
        try:
            async with aclosing(_registrations(log, topics)) as found:
                async for pool in found:
                    if pool not in known:
                        known.add(pool)
                        yield pool
        except LogUnavailable as error:
            logger.warning("worker.pools_not_read", error=str(error))
        await asyncio.sleep(WAIT_S)


async def _registrations(log: Log, topics: Topics) -> AsyncGenerator[str, None]:
    """Yield the pool of each bench that is registered, for ever. Raises `LogUnavailable`."""
    count = await log.partitions(topics.events)
    partitions = [Partition(topics.events, number) for number in range(count)]
    reader = await log.open_reader(await log.begins(partitions))
    try:
        while True:
            for record in await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S):
                if record.headers.get("ce_type") == b"BenchRegistered" and (pool := _pool(record)):
                    yield pool
    finally:
        await reader.close()


def _pool(record: Record) -> str:
    """Return the pool of an event; empty if no scheduler wrote it."""
    try:
        meta = decode_event(record.value).meta
    except Undecodable:
        return ""
    return meta.pool if is_in_place(meta, record.partition) else ""
