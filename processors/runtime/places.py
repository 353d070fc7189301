"""Whether pools stand in the partitions that they belong to, by how many partitions there are.

A pool is decided in one partition, and that follows from its name and the number of partitions. Who
writes to a topic by another rule, or raises the number, would have it decided in two: two holders
of its benches, and fences from 1. Kafka takes no partitions away, so nobody can mend that here.
"""

from contextlib import aclosing

from events import facts
from events.codec import decode_event
from events.errors import JournalBroken, Misplaced, Undecodable
from events.log import Log, Partition
from events.reading import read_until
from events.topics import Topics
from processors.scheduler.state import Ledger

FIRST_OFFSETS = 64
"""So far into another partition an owner looks for a pool that its own empty one is given now."""
_MAKE_POOLS = facts.BenchRegistered | facts.WorkerRegistered


class Places:
    """Where pools belong, for the owner of one partition."""

    def __init__(self, log: Log, topics: Topics, number: int) -> None:
        self._log = log
        self._topics = topics
        self._number = number
        self._count = 0

    async def look(self, ledger: Ledger) -> None:
        """Learn how many partitions there are.

        Raises `JournalBroken` if there were others when pools came to be; `LogUnavailable`.
        """
        self._count = await self._log.partitions(self._topics.events)
        for pool in ledger.pools:
            self._refuse(pool, self._number)
        if not ledger.seq:
            for number in range(self._count):
                await self._look_at(number)

    async def _look_at(self, number: int) -> None:
        partition = Partition(self._topics.events, number)
        begin = (await self._log.begins([partition]))[partition]
        end = min((await self._log.ends([partition]))[partition], begin + FIRST_OFFSETS)
        async with aclosing(read_until(self._log, partition, begin, end)) as batches:
            async for records in batches:
                for record in records:
                    try:
                        message = decode_event(record.value)
                    except Undecodable:
                        continue
                    if isinstance(message.body, _MAKE_POOLS):
                        self._refuse(message.meta.pool, number)

    def _due(self, pool: str) -> int:
        return self._log.partition_for(pool.encode(), self._count)

    def _refuse(self, pool: str, number: int) -> None:
        due = self._due(pool)
        if due != number:
            raise JournalBroken(
                f"the number of partitions of {self._topics.events} was changed, there are "
                f"{self._count} now: pool {pool!r} belongs into partition {due}, and what was "
                f"decided of it is in {number}. Nothing is decided: it would be decided twice. "
                "Kafka takes no partitions away: bring the broker's data back from a backup, or go "
                "on under another --topic-prefix (with `teo up`, another --data-dir)"
            )

    def fault(self, pool: str) -> Misplaced | None:
        """Return what is wrong with an input of `pool` that stands here; None: nothing."""
        due = self._due(pool)
        if due == self._number:
            return None
        return Misplaced(
            f"it is of pool {pool!r}, which belongs into partition {due} of {self._count}: whoever "
            "wrote it did not choose the partition by the pool, as murmur2 of the key does"
        )
