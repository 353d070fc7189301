"""Finds the pools there are, from the journal: for a worker that serves whatever comes.

Never decides which pools to serve: that is the role's choice.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog

from events.codec import decode_event
from events.errors import LogUnavailable, OffsetGone, Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Record
from events.topics import Topics

RECORDS_MAX = 2_000
WAIT_S = 1.0

logger = structlog.get_logger()


async def pools(log: Log, topics: Topics) -> AsyncIterator[str]:
    """Yield the name of each pool once, those of the past first, then each as it appears.

    A journal that was begun anew is read anew.
    """
    known: set[str] = set()
    while True:
        try:
            async with aclosing(_registered(log, topics)) as found:
                async for pool in found:
                    if pool not in known:
                        known.add(pool)
                        yield pool
        except LogUnavailable as error:
            logger.warning("worker.pools_unknown", error=str(error))
        await asyncio.sleep(WAIT_S)


async def _registered(log: Log, topics: Topics) -> AsyncGenerator[str, None]:
    """Yield the pool of each bench that is registered; return if the journal is another one.

    Raises `LogUnavailable` if it cannot be read from its start now.
    """
    count = await log.partitions(topics.events)
    partitions = [Partition(topics.events, number) for number in range(count)]
    reader = await log.open_reader(await log.begins(partitions))
    try:
        while True:
            try:
                records = await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S)
            except OffsetGone:
                return
            except LogUnavailable:
                await asyncio.sleep(WAIT_S)
                continue
            for pool in map(_registered_in, records):
                if pool:
                    yield pool
    finally:
        await reader.close()


def _registered_in(record: Record) -> str:
    """Return the pool in which `record` registers a bench; empty: it does not, or is no fact."""
    if record.headers.get("ce_type") != b"BenchRegistered":
        return ""
    try:
        meta = decode_event(record.value).meta
    except Undecodable:
        return ""
    return meta.pool if is_in_place(meta, record.partition) else ""
