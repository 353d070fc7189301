"""Reads a part of one partition, batch by batch. Never waits for ever."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from events.errors import LogUnavailable
from events.log import Log, Partition, Record

RECORDS_MAX = 2_000
WAIT_S = 0.5
STALLED_S_MAX = 30.0
"""A read that gets nothing for this long although there is more is given up, and begun anew."""


async def read_until(
    log: Log, partition: Partition, start: int, end: int
) -> AsyncGenerator[Sequence[Record], None]:
    """Yield the records of `partition` from offset `start` on, up to `end`, which it leaves out.

    Raises `LogUnavailable`, also if it gets no further.
    """
    if start >= end:
        return
    clock = asyncio.get_running_loop().time
    progress_s = clock()
    reader = await log.open_reader({partition: start})
    try:
        while await reader.position(partition) < end:
            records = await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S)
            if records:
                progress_s = clock()
                yield [record for record in records if record.offset < end]
            elif clock() - progress_s > STALLED_S_MAX:
                raise LogUnavailable(
                    f"{partition.topic} partition {partition.number}: nothing read for "
                    f"{STALLED_S_MAX:.0f} s although it goes on to offset {end}"
                )
    finally:
        await reader.close()
