"""What the rest of the code knows of Kafka: a few small protocols, in the log's own words.

`events.kafka` implements them on a broker; the simulation implements them in memory; one contract
suite proves both. Readers see committed records only, in offset order, without gaps they could
notice: offsets rise but need not be dense (transaction markers take some).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from events.append_time import AppendTime


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Position(NamedTuple):
    """Where a record stands."""

    partition: int
    offset: int


class Noted(NamedTuple):
    """What a member of a group says of a partition: nothing is decided by it.

    A recovery reads it for one thing only: to see that a journal that is empty was lost.
    """

    offset: int
    """Of the next record it reads."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which topic it is that has a name: one that is made anew has the same name and another id."""

    id: str
    """Kafka's id of the topic; empty: the broker is too old to tell."""
    copies: int
    """Of the partition that has fewest."""
    epochs: tuple[int, ...] = ()
    """For each partition, how often it got a leader; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as read. `timestamp` is aware UTC: append time where the topic says so."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)


def told_headers(pairs: Iterable[tuple[str, bytes | None]]) -> Mapping[str, bytes]:
    """Return the headers of a record as read; one whose value is null counts as empty."""
    return {name: value or b"" for name, value in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to write. It goes to the partition of its key unless `partition` says another."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    partition: int | None = None

    @property
    def size_bytes(self) -> int:
        """What it holds; on the wire a few dozen bytes come on top."""
        headers = sum(len(name.encode()) + len(value) for name, value in self.headers.items())
        return len(self.key or b"") + len(self.value or b"") + headers


class Reader(Protocol):
    """Reads chosen partitions from chosen offsets, read_committed. Belongs to one task."""

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        """Return up to `records_max` records, in order within a partition; [] after `wait_s`.

        Raises `LogUnavailable` or `TopicMissing`; the reader may be polled again.
        """
        ...

    async def position(self, partition: Partition) -> int:
        """Return the offset that the next poll of `partition` goes on from.

        Everything before it was returned, or is no record (transaction markers): so a reader is
        at an end of `Log.ends` exactly when its position is not below it.
        """
        ...

    def read_up_s(self, partition: Partition) -> float | None:
        """Return when `partition` was read to its end, by the monotonic clock; None: not yet.

        All that was committed to it before that moment was returned by a poll. It may be late:
        what is asked for is a bound.
        """
        ...

    async def close(self) -> None:
        """Give back the connection. Idempotent."""
        ...


class Writer(Protocol):
    """The one transactional writer of a transactional id. After any error it is dead."""

    async def commit(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        """Write all of `records` in one transaction; return where they stand, once committed.

        Raises `Fenced` if a newer owner took over, `LogUnavailable` if the outcome is not known,
        `RecordTooBig` if a topic does not take one of them: then none of them is ever seen.
        After any of these, nothing more may be written: close, open again and read what is there.
        """
        ...

    def expect(self, place: Partition, offset: int) -> None:
        """Let nothing be committed to `place` that does not stand right behind what is known.

        The next record must come to stand at `offset`, and each later commit right behind the one
        before; else `commit` raises `LogUnavailable` and nothing of it is ever seen. For an end
        of a log that was asked for can be an old one: a broker that was stopped, and does not know
        yet that it leads no more, still answers.
        """
        ...

    async def close(self) -> None:
        """Give back the connection. Never commits. Idempotent."""
        ...


class Membership(Protocol):
    """A member of a consumer group; the group shares out the partition numbers."""

    async def assigned(self, *, wait_s: float) -> frozenset[int]:
        """Return the partition numbers this member owns now; waits up to `wait_s` for a change.

        Must be called again and again: it is also what keeps the membership alive.
        """
        ...

    async def note(self, notes: Mapping[Partition, Noted]) -> None:
        """Say how far partitions that this member owns are, for whoever asks with `Log.noted`.

        Raises `LogUnavailable`, also if the group has given one of them to another member.
        """
        ...

    async def close(self) -> None:
        """Leave the group at once, so that others take over without waiting. Idempotent."""
        ...


class Log(Protocol):
    """A Kafka cluster, as this project uses it."""

    @property
    def time(self) -> AppendTime:
        """The log's time, told by what was appended here: each append notes its stamp."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def partitions(self, topic: str) -> int:
        """Return how many partitions `topic` has. Raises `TopicMissing`."""
        ...

    def partition_for(self, key: bytes, partitions: int) -> int:
        """Return the partition of `key`: murmur2, as every Kafka client's default."""
        ...

    async def append(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        """Write `records` in order, idempotently, outside transactions; return where they stand.

        Returns once all are acknowledged by all in-sync replicas. Raises `LogUnavailable`, or
        `RecordTooBig` if a topic does not take one of them; some may then have been written, so
        the caller repeats only what readers know as repeats.
        """
        ...

    async def open_writer(self, transactional_id: str) -> Writer:
        """Fence every older writer of `transactional_id`, end its open transaction, take over."""
        ...

    async def open_reader(self, starts: Mapping[Partition, int]) -> Reader:
        """Return a reader of exactly these partitions, from these offsets."""
        ...

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return for each partition the offset that follows its last committed record."""
        ...

    async def begins(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return for each partition the offset of its first kept record."""
        ...

    async def identify(self, topics: Sequence[str]) -> Mapping[str, Identity]:
        """Return which topics those are that have these names now; a missing one is not in."""
        ...

    async def noted(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Noted]:
        """Return what the members of `group` said last; not of partitions of which none did."""
        ...

    async def join(self, group: str, topics: Sequence[str]) -> Membership:
        """Join consumer group `group` over `topics`, which have equally many partitions.

        A member owns the same partition numbers of every topic.
        """
        ...
