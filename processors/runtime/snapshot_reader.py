"""Finds the snapshots of a partition, newest first; reads no more of the topic than it must.

The topic is compacted now and then, so much that is old may lie before what is new: it is read
from its end, in windows that grow. What it keeps at once is limited.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from events.codec import decode
from events.errors import TopicMissing, Undecodable
from events.log import Log, Partition, Record
from events.reading import read_until
from events.snapshots import Snapshot
from events.topics import Topics
from processors.runtime.snapshot import Parts, is_complete

WINDOW_OFFSETS_FIRST = 64
WINDOW_GROWTH = 8
KEPT_AT_ONCE = 2
TRIED_MAX = 5
"""More snapshots in a row that cannot be used are no accident: the journal is folded instead."""


async def has_snapshots(log: Log, topics: Topics, number: int) -> bool:
    """Return True if there is a place for snapshots of this partition."""
    try:
        return number < await log.partitions(topics.snapshots)
    except TopicMissing:
        return False


@dataclass(slots=True)
class Search:
    """A search through the snapshots of one partition, and what it could not read."""

    log: Log
    partition: Partition
    undecodable: dict[int, str] = field(default_factory=dict)
    """Error of each record that is no snapshot this version can read, by offset."""

    async def newest_first(self) -> AsyncGenerator[tuple[int, Parts], None]:
        """Yield (seq, records) of one snapshot after the other, newest first.

        The caller stops at the one it can use. Raises `LogUnavailable`.
        """
        begin = (await self.log.begins([self.partition]))[self.partition]
        end = (await self.log.ends([self.partition]))[self.partition]
        span = WINDOW_OFFSETS_FIRST
        tried: set[int] = set()
        while len(tried) < TRIED_MAX:
            start = max(begin, end - span)
            found = await self._read(start, end, tried)
            newest = [
                seq
                for seq in sorted(found, reverse=True)
                if start == begin or is_complete(found[seq])
            ]
            for seq in newest:
                tried.add(seq)
                yield seq, found[seq]
            if not newest:
                if start == begin:
                    return
                span *= WINDOW_GROWTH

    async def _read(self, start: int, end: int, tried: set[int]) -> dict[int, Parts]:
        found: dict[int, dict[tuple[str, int], Snapshot]] = defaultdict(dict)
        async with aclosing(read_until(self.log, self.partition, start, end)) as batches:
            async for records in batches:
                for record in records:
                    snapshot = self._decode(record)
                    if snapshot is None or snapshot.seq in tried:
                        continue
                    found[snapshot.seq][snapshot.pool, snapshot.part] = snapshot
                    if len(found) > KEPT_AT_ONCE:
                        del found[min(found)]
        return dict(found)

    def _decode(self, record: Record) -> Snapshot | None:
        if record.value is None or record.offset in self.undecodable:
            return None
        try:
            snapshot = decode(record.value)
        except Undecodable as error:
            self.undecodable[record.offset] = str(error)
            return None
        if not isinstance(snapshot, Snapshot) or snapshot.partition != self.partition.number:
            self.undecodable[record.offset] = "no snapshot of this partition"
            return None
        return snapshot
