"""What is on the log in memory, and the faults that befall those who use it."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from aiokafka.partitioner import murmur2

from events.errors import RecordTooBig, TopicMissing
from events.log import Noted, Outgoing, Partition, Position, Record
from events.topics import RECORD_BYTES_KEY, Topics, specs

if TYPE_CHECKING:
    from tests.sim.memory_log import MemoryMembership

BROKER_BYTES_MAX = 1_048_588
"""What Kafka takes unless told otherwise."""
START = datetime(2026, 1, 5, 10, tzinfo=UTC)


@dataclass(kw_only=True)
class Faults:
    """How often what goes wrong, as probabilities per call; `latency_s` is the longest delay."""

    latency_s: float = 0.0
    append_lost: float = 0.0
    append_unknown: float = 0.0
    """Written, but the answer is lost."""
    append_twice: float = 0.0
    """Written twice: what a repeat of an application does."""
    commit_lost: float = 0.0
    """Aborted: the records take offsets, and nobody sees them."""
    commit_unknown: float = 0.0
    stale_end: float = 0.0
    """The end of the journal is told by somebody who does not know the newest of it."""
    read_lost: float = 0.0
    topic_unseen: float = 0.0
    """A broker that has just lost a leader says that a topic does not exist."""
    reorder: float = 0.0
    """A poll brings the records of one partition only, and of which one changes."""
    crash: float = 0.0
    """The process dies in this call, before or after it took effect."""


@dataclass
class MemoryCluster:
    """The records, the transactional epochs and the groups."""

    topics: Topics
    partitions: int = 2
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    away_until_s: float = 0.0
    """Loop time until which nothing is answered."""
    unsteady_s: list[tuple[float, float]] = field(default_factory=list)
    """From when to when nothing was answered."""
    stored: dict[Partition, list[Record | None]] = field(default_factory=dict)
    """None stands for a transaction marker, which takes an offset."""
    begins: dict[Partition, int] = field(default_factory=dict)
    """First offset that is kept of partitions of which somebody deleted the first records."""
    epochs: dict[str, int] = field(default_factory=dict)
    groups: dict[str, list["MemoryMembership"]] = field(default_factory=dict)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    clock_ahead_s: float = 0.0
    """How far the clock of the cluster's machines was set, and every stamp with it."""
    appended_s: dict[tuple[str, int, int], list[float]] = field(default_factory=dict)
    """When records were really appended, by topic, partition and offset: seconds of the loop. More
    than one where a topic was made anew, or lost its newest records."""
    notes: dict[str, dict[Partition, Noted]] = field(default_factory=dict)
    """What members of a group said last, by group."""
    makings: dict[str, int] = field(default_factory=dict)
    """How often each topic was made: its id."""
    copies: int = 1
    elections: int = 0
    """How often each partition got a leader: after a power cut it does."""
    is_fencing: bool = True
    """Off in a negative control: an old writer's transactions are taken."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        names = ("commands", "reports", "events", "tasks", "results", "logs", "dlq", "snapshots")
        for name in names:
            self.makings[getattr(self.topics, name)] = 1
            for number in range(self.partitions):
                self.stored[Partition(getattr(self.topics, name), number)] = []
        self.bytes_max = {
            spec.name: int(spec.config.get(RECORD_BYTES_KEY, BROKER_BYTES_MAX))
            for spec in specs(self.topics, min_insync=1)
        }
        """What a record of each topic may hold."""

    def now(self) -> datetime:
        """Return the cluster's wall clock."""
        seconds = asyncio.get_running_loop().time() + self.clock_ahead_s
        return START + timedelta(seconds=seconds)

    def records(self, topic: str, number: int) -> list[Record]:
        """Return what is on one partition."""
        return [record for record in self.stored[Partition(topic, number)] if record is not None]

    def all_records(self, topic: str) -> list[Record]:
        """Return what is on a topic, partition by partition."""
        return [r for number in range(self.partitions) for r in self.records(topic, number)]

    def refuse_too_big(self, records: Sequence[Outgoing]) -> None:
        """Raise `RecordTooBig` if a topic does not take one of `records`."""
        for record in records:
            if record.size_bytes > self.bytes_max.get(record.topic, BROKER_BYTES_MAX):
                raise RecordTooBig(f"{record.topic} does not take {record.size_bytes} bytes")

    def put(self, record: Outgoing) -> Position:
        """Take one record."""
        number = record.partition
        if number is None:
            number = partition_of(record.key or b"", self.partitions)
        partition = Partition(record.topic, number)
        if partition not in self.stored:
            raise TopicMissing(f"topic {record.topic} has no partition {number}")
        entries = self.stored[partition]
        place = record.topic, number, len(entries)
        self.appended_s.setdefault(place, []).append(asyncio.get_running_loop().time())
        entries.append(
            Record(
                topic=record.topic,
                partition=number,
                offset=len(entries),
                timestamp=self.now(),
                key=record.key,
                value=record.value,
                headers=dict(record.headers),
            )
        )
        return Position(number, len(entries) - 1)

    def leave(self, seconds: float) -> None:
        """Answer nothing for a while: who serves a partition may lose it to somebody else."""
        now_s = asyncio.get_running_loop().time()
        self.away_until_s = max(self.away_until_s, now_s + seconds)
        self.unsteady_s.append((now_s, now_s + seconds))

    def make_anew(self, topic: str) -> list[Record]:
        """Delete a topic and make it again; return what was on it."""
        lost = self.all_records(topic)
        self.makings[topic] += 1
        for number in range(self.partitions):
            self.stored[Partition(topic, number)] = []
            self.begins.pop(Partition(topic, number), None)
        return lost

    def add_partitions(self, count: int) -> None:
        """Give every topic more partitions, as Kafka lets anybody do who may."""
        for topic in self.makings:
            for number in range(self.partitions, count):
                self.stored[Partition(topic, number)] = []
        self.partitions = count

    def delete_before(self, partition: Partition, offset: int) -> None:
        """Forget what stands before `offset`, as retention does, or an operator."""
        entries = self.stored[partition]
        entries[:offset] = [None] * min(offset, len(entries))
        self.begins[partition] = offset

    def shorten(self, partition: Partition, count: int) -> list[Record]:
        """Lose the last offsets of a partition, as in a power cut; return what was on them."""
        entries = self.stored[partition]
        self.elections += 1
        cut = max(0, len(entries) - count)
        lost, entries[cut:] = entries[cut:], []
        return [record for record in lost if record is not None]

    def abort(self, records: Sequence[Outgoing]) -> None:
        """Take records of a transaction that is aborted: offsets without anything to read."""
        positions = [(record.topic, self.put(record)) for record in records]
        for topic, at in positions:
            self.stored[Partition(topic, at.partition)][at.offset] = None
        self.mark(positions)

    def mark(self, positions: Sequence[tuple[str, Position]]) -> None:
        """Put a transaction marker on every partition that a commit touched."""
        for partition in sorted({Partition(topic, at.partition) for topic, at in positions}):
            self.stored[partition].append(None)

    def wake(self) -> None:
        """Let every poll look again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def rebalance(self, group: str) -> None:
        """Share the partitions out by ranges, over the members that are there."""
        members = self.groups.get(group, [])
        for place, member in enumerate(members):
            low = self.partitions * place // len(members)
            high = self.partitions * (place + 1) // len(members)
            member.numbers = frozenset(range(low, high))
        self.wake()


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of `key`, as every Kafka client's default."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
