"""A journal in memory, with what a broker's has: gaps of transaction markers, a log that fails.

Only what projections read: they never write, join or open a writer.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import NoReturn, Self

from events.codec import encode
from events.errors import LogUnavailable
from events.ids import event_id
from events.log import Outgoing, Partition, Position, Record
from events.message import EventMessage

START = datetime(2026, 1, 5, 10, tzinfo=UTC)


class JournalLog:
    """Partitions of `teo.events`, each a list of records and the offset that comes next."""

    def __init__(self, partitions: int = 1) -> None:
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.next_offsets = [0] * partitions
        self.is_down = False
        self.polled: list[int] = []
        self.changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def write(self, messages: Iterable[EventMessage], partition: int = 0) -> Position:
        """Write events; after the last of each decision stands a transaction marker."""
        for message in messages:
            self.write_raw(encode(in_place(message, partition)), partition)
            if message.meta.index == message.meta.count - 1:
                self.next_offsets[partition] += 1
        return Position(partition, self.records[partition][-1].offset)

    def write_raw(self, value: bytes, partition: int = 0) -> int:
        offset = self.next_offsets[partition]
        self.records[partition].append(
            Record(
                topic="teo.events",
                partition=partition,
                offset=offset,
                timestamp=START,
                key=b"lab",
                value=value,
            )
        )
        self.next_offsets[partition] += 1
        self.changed.set()
        return offset

    def _check(self) -> None:
        if self.is_down:
            raise LogUnavailable("the log is down")

    async def partitions(self, topic: str) -> int:
        self._check()
        return len(self.records)

    async def open_reader(self, starts: Mapping[Partition, int]) -> "JournalReader":
        self._check()
        return JournalReader(self, {p.number: offset for p, offset in starts.items()})

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._check()
        return {partition: self.next_offsets[partition.number] for partition in partitions}

    async def begins(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._check()
        return dict.fromkeys(partitions, 0)

    def partition_for(self, key: bytes, partitions: int) -> int:
        return key[0] % partitions

    async def append(self, records: Sequence[Outgoing]) -> NoReturn:
        raise AssertionError("a projection writes nothing")

    async def open_writer(self, transactional_id: str) -> NoReturn:
        raise AssertionError("a projection writes nothing")

    async def join(self, group: str, topics: Sequence[str]) -> NoReturn:
        raise AssertionError("a projection is in no group")


def in_place(message: EventMessage, partition: int) -> EventMessage:
    """Return an event with the id that a scheduler gives to it in this partition."""
    meta = message.meta
    return replace(
        message, meta=replace(meta, event_id=event_id(meta.occurred_at, partition, meta.seq))
    )


class JournalReader:
    """Reads a `JournalLog`."""

    def __init__(self, log: JournalLog, positions: dict[int, int]) -> None:
        self._log = log
        self._positions = positions

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        self._log._check()
        found = self._take(records_max)
        if not found:
            self._log.changed.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._log.changed.wait()
            except TimeoutError:
                return []
            self._log._check()
            found = self._take(records_max)
        self._log.polled += [record.offset for record in found]
        return found

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for number, position in self._positions.items():
            new = [r for r in self._log.records[number] if r.offset >= position]
            new = new[: records_max - len(found)]
            found += new
            last = self._log.records[number][-1].offset if self._log.records[number] else -1
            if new and new[-1].offset < last:
                self._positions[number] = new[-1].offset + 1
            elif len(found) < records_max or new:
                self._positions[number] = self._log.next_offsets[number]
        return found

    async def position(self, partition: Partition) -> int:
        return self._positions[partition.number]

    async def close(self) -> None: ...
