"""What is stored in the snapshots topic, for comparison with the journal. Never writes."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from events.codec import decode
from events.errors import Undecodable
from events.log import Log, Partition, Record
from events.reading import read_until
from events.snapshots import Snapshot
from events.topics import Topics
from processors.runtime.snapshot import SnapshotUnusable, assemble, fingerprint, is_complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A snapshot that a recovery could use."""

    seq: int
    offset: int
    """Of its last record, in the snapshots topic."""
    journal_offset: int
    last_event_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Snapshot records that a recovery would skip."""

    offset: int
    seq: int
    """-1: not known."""
    reason: str
    text: str


@dataclass(slots=True)
class Stock:
    """All snapshots of one partition. What compaction left of older ones is not in it."""

    usable: list[Stored] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)

    def by_seq(self) -> Mapping[int, list[Stored]]:
        """Return the usable ones by seq."""
        found: dict[int, list[Stored]] = {}
        for each in self.usable:
            found.setdefault(each.seq, []).append(each)
        return found


async def stock_of(log: Log, topics: Topics, number: int) -> Stock:
    """Read every snapshot of partition `number`, one at a time. Raises `LogUnavailable`."""
    partition = Partition(topics.snapshots, number)
    begin = (await log.begins([partition]))[partition]
    end = (await log.ends([partition]))[partition]
    stock = Stock()
    parts: dict[tuple[str, int], Snapshot] = {}
    async with aclosing(read_until(log, partition, begin, end)) as batches:
        async for records in batches:
            for record in records:
                snapshot = _decoded(stock, record, number)
                if snapshot is None:
                    continue
                if any(each.seq != snapshot.seq for each in parts.values()):
                    parts = {}
                parts[snapshot.pool, snapshot.part] = snapshot
                if is_complete(parts):
                    _take(stock, parts, snapshot.seq, record.offset)
                    parts = {}
    return stock


def _decoded(stock: Stock, record: Record, number: int) -> Snapshot | None:
    if record.value is None:
        return None
    try:
        snapshot = decode(record.value)
    except Undecodable as error:
        stock.unusable.append(_unusable(record.offset, -1, "undecodable", str(error)))
        return None
    if not isinstance(snapshot, Snapshot) or snapshot.partition != number:
        text = "no snapshot of this partition"
        stock.unusable.append(_unusable(record.offset, -1, "undecodable", text))
        return None
    return snapshot


def _unusable(offset: int, seq: int, reason: str, text: str) -> Unusable:
    return Unusable(offset=offset, seq=seq, reason=reason, text=text)


def _take(stock: Stock, parts: Mapping[tuple[str, int], Snapshot], seq: int, offset: int) -> None:
    try:
        taken = assemble(parts)
    except SnapshotUnusable as error:
        stock.unusable.append(_unusable(offset, seq, error.reason, str(error)))
        return
    stock.usable.append(
        Stored(
            seq=seq,
            offset=offset,
            journal_offset=taken.journal_offset,
            last_event_id=taken.last_event_id,
            fingerprint=fingerprint(taken.ledger),
        )
    )
