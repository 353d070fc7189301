"""Reads journal partitions into a store, decision by decision, from where the store stands.

Never shows half a decision, never skips a number: it stops with `JournalBroken`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from events.codec import decode_event
from events.errors import JournalBehind, JournalBroken, TeoError, Undecodable
from events.log import Log, Partition, Position, Reader, Record
from events.quarantine import Quarantine
from projections.feed import Change
from projections.journal import Decision, Mark, PartitionReader
from projections.store import Store

BATCH_RECORDS_MAX = 500
"""Records of one transaction; a decision that is longer still goes in whole."""
POLL_WAIT_S = 0.5


class OtherJournal(TeoError):
    """Raised when the journal is not the one the store was built from."""

    code = "other_journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one poll brought into the store."""

    records: int
    decisions: Mapping[int, Sequence[Decision]]
    fault: JournalBroken | None = None
    """What is wrong with the record behind those that were taken; None: all were."""

    def changes(self) -> list[Change]:
        """Return every event that was applied, in order within a partition."""
        return [
            Change(position=Position(partition, offset), message=message)
            for partition, decisions in self.decisions.items()
            for decision in decisions
            for offset, message in decision.events
        ]


AHEAD = (
    "the journal lost facts, or a broker tells an old end of it: it is asked again. Bring the "
    "broker's data back from a backup. If it was, or if it is accepted that they are lost, make "
    "the read models anew: under `teo up`, `teo down`, delete projections.sqlite* in its folder, "
    "`teo up`; else stop the API, `teo projections rebuild`"
)


class Tail:
    """One reader over all partitions of the journal, and the store it fills."""

    def __init__(
        self,
        store: Store,
        log: Log,
        reader: Reader,
        starts: Mapping[Partition, int],
        ends: Mapping[Partition, int],
    ) -> None:
        self._store = store
        self._log = log
        self._reader = reader
        self._readers = {p.number: PartitionReader(p.number, store.mark(p.number)) for p in starts}
        self._quarantines: dict[int, Quarantine] = {}
        """For each partition the newest that has read on: of many records only one does."""
        self._unverified = {
            partition.number: mark
            for partition, start in starts.items()
            if (mark := store.mark(partition.number)).offset == start
        }
        """Marks of records that are read once more, to see that it is the same journal."""
        self.partitions = tuple(starts)
        self.read = {partition.number: start for partition, start in starts.items()}
        """For each partition the offset that is read next."""
        self._ends = {partition.number: end for partition, end in ends.items()}

    @classmethod
    async def open(cls, store: Store, log: Log, topic: str) -> "Tail":
        """Return a tail that goes on where `store` stands.

        Raises `JournalBehind` if the store is ahead of the log, `LogUnavailable`, `TopicMissing`.
        """
        count = await log.partitions(topic)
        store.bind(f"{topic}/{count}")
        partitions = [Partition(topic, number) for number in range(count)]
        begins, ends = await log.begins(partitions), await log.ends(partitions)
        for partition in partitions:
            mark = store.mark(partition.number)
            if mark.offset >= ends[partition]:
                raise JournalBehind(
                    f"partition {partition.number} of {topic} ends at offset {ends[partition]}, "
                    f"but the read models have applied offset {mark.offset} of it, seq "
                    f"{mark.seq - 1}: {AHEAD}"
                )
        starts = {p: max(begins[p], store.mark(p.number).offset) for p in partitions}
        return cls(store, log, await log.open_reader(starts), starts, ends)

    async def close(self) -> None:
        """Give back the reader. Idempotent."""
        await self._reader.close()

    async def poll(self, *, wait_s: float = POLL_WAIT_S) -> Sequence[Record]:
        """Return what comes next, for `apply`. Raises as `Reader.poll`."""
        return await self._reader.poll(records_max=BATCH_RECORDS_MAX, wait_s=wait_s)

    def is_level(self, number: int) -> bool:
        """Return True if all of a partition that was there when this was opened is applied."""
        return self.read[number] >= self._ends[number]

    async def settle(self) -> None:
        """Learn how far the reader is, once all it gave is applied."""
        for partition in self.partitions:
            self.read[partition.number] = await self._reader.position(partition)

    async def take(
        self, records: Sequence[Record], *, limits: Mapping[int, int] | None = None
    ) -> AsyncGenerator[Batch, None]:
        """Bring `records` into the store; yield what each transaction brought, just committed.

        A record that is no fact, and that a later one names, is passed over. Raises
        `JournalBroken` at any other that does not fit, once what stands before it is applied.
        """
        while records:
            batch = self.apply(records, limits=limits)
            yield batch
            if batch.fault is None:
                return
            stuck, records = records[batch.records], records[batch.records + 1 :]
            if not await self._passes_over(stuck):
                raise batch.fault

    async def _passes_over(self, record: Record) -> bool:
        reader = self._readers[record.partition]
        known = self._quarantines.get(record.partition)
        if known is None or not await known.passes_over(record, reader.seq):
            # Another may have been named since that one has read on.
            known = Quarantine(self._log, Partition(record.topic, record.partition))
            if not await known.passes_over(record, reader.seq):
                return False
            self._quarantines[record.partition] = known
        decision = reader.pass_over(record)
        if decision is not None:
            self._store.apply({record.partition: [decision]})
        return True

    def apply(self, records: Sequence[Record], *, limits: Mapping[int, int] | None = None) -> Batch:
        """Bring `records` into the store up to the first that does not fit, in one transaction.

        Records from the offset of `limits` on are left out.
        """
        done: defaultdict[int, list[Decision]] = defaultdict(list)
        fault: JournalBroken | None = None
        taken = 0
        for record in records:
            if limits is None or record.offset < limits.get(record.partition, 0):
                try:
                    decision = self._take(record)
                except JournalBroken as error:
                    fault = error
                    break
                if decision is not None:
                    done[record.partition].append(decision)
            taken += 1
        if done:
            self._store.apply(done)
        return Batch(records=taken, decisions=done, fault=fault)

    def _take(self, record: Record) -> Decision | None:
        mark = self._unverified.pop(record.partition, None)
        reader = self._readers[record.partition]
        if mark is None:
            return reader.take(record)
        self._verify(record, mark)
        return None

    def _verify(self, record: Record, mark: Mark) -> None:
        """Raise `JournalBehind` unless `record` is the one that was applied last."""
        try:
            event_id = decode_event(record.value).meta.event_id
        except Undecodable:
            event_id = ""
        if (record.offset, event_id) != (mark.offset, mark.event_id):
            raise JournalBehind(
                f"offset {mark.offset} of journal partition {record.partition} is not the event "
                f"{mark.event_id or '?'} that the read models have applied from it: {AHEAD}"
            )


async def fill(tail: Tail, ends: Mapping[int, int]) -> int:
    """Apply all records before `ends`; return how many events that were.

    The tail may have read further and must not be gone on with: open another one.
    Raises `LogUnavailable`, `JournalBehind`, `JournalBroken`.
    """
    applied = 0
    while any(tail.read[number] < end for number, end in ends.items()):
        async with aclosing(tail.take(await tail.poll(), limits=ends)) as batches:
            async for batch in batches:
                applied += sum(len(d.events) for ds in batch.decisions.values() for d in ds)
        await tail.settle()
        await asyncio.sleep(0)
    return applied
