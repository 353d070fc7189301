"""A Kafka cluster in memory, for the simulation: same protocol, own faults, no real time.

`MemoryCluster` is what all processes share; each process has a `MemoryLog` of its own, which can
be killed (nothing of it takes effect any more) or paused (a zombie: it wakes up later and goes on).
Everything follows from the loop's clock and the cluster's seeded `Random`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from events.append_time import AppendTime
from events.errors import Fenced, LogUnavailable, OffsetGone, RecordTooBig, TopicMissing
from events.log import Identity, Noted, Outgoing, Partition, Position, Record
from tests.sim.memory_cluster import MemoryCluster, partition_of

SESSION_S = 6.0


class MemoryLog:
    """One process's connection to the cluster."""

    def __init__(self, cluster: MemoryCluster, name: str = "process") -> None:
        self.cluster = cluster
        self.name = name
        self.is_dead = False
        self.on_crash: Callable[[], None] | None = None
        """Told when a fault kills this process, so that somebody starts it again; None: no such
        fault happens to it."""
        self.attempts_unheard = 0
        """So many of the next attempts it is given never reach it: it forgets them."""
        self.time = AppendTime(lambda: asyncio.get_running_loop().time())
        self.unsteady_s: list[tuple[float, float]] = []
        """From when to when it was dead or paused, and taken for it."""
        self._paused_until_s = 0.0
        self._memberships: list[MemoryMembership] = []

    def kill(self) -> None:
        """As kill -9: nothing takes effect any more; its memberships run out by themselves."""
        self.is_dead = True
        loop = asyncio.get_running_loop()
        self.unsteady_s.append((loop.time(), loop.time() + SESSION_S))
        for membership in self._memberships:
            loop.call_later(SESSION_S, membership.expire)

    def pause(self, seconds: float) -> None:
        """As SIGSTOP and, later, SIGCONT: calls hang; a long pause costs the membership."""
        now_s = asyncio.get_running_loop().time()
        self._paused_until_s = now_s + seconds
        self.unsteady_s.append((now_s, now_s + seconds + SESSION_S))
        if seconds > SESSION_S:
            loop = asyncio.get_running_loop()
            for membership in self._memberships:
                loop.call_later(SESSION_S, membership.expire_and_rejoin, seconds - SESSION_S)

    async def travel(self, what: str) -> None:
        """Take the time a request takes; fail if the cluster is away. Dead processes never come."""
        is_mortal = self.on_crash is not None and not self.is_dead
        if self.on_crash is not None and is_mortal and self.strikes(self.cluster.faults.crash):
            self.kill()
            self.on_crash()
        await self._delay()
        loop = asyncio.get_running_loop()
        while (left_s := self._paused_until_s - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        if self.is_dead:
            await asyncio.Event().wait()
        if loop.time() < self.cluster.away_until_s:
            await asyncio.sleep(0.2)
            raise LogUnavailable(f"{what}: the cluster is away")

    async def _delay(self) -> None:
        longest_s = self.cluster.faults.latency_s
        await asyncio.sleep(self.cluster.random.uniform(0, longest_s) if longest_s else 0)

    def strikes(self, probability: float) -> bool:
        """Return True if a fault of this probability happens now."""
        return probability > 0 and self.cluster.random.random() < probability

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    async def partitions(self, topic: str) -> int:
        await self.travel("partitions")
        if Partition(topic, 0) not in self.cluster.stored:
            raise TopicMissing(f"topic {topic} does not exist")
        return self.cluster.partitions

    def partition_for(self, key: bytes, partitions: int) -> int:
        return partition_of(key, partitions)

    async def append(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        await self.travel("append")
        faults = self.cluster.faults
        if self.strikes(faults.topic_unseen):
            raise TopicMissing("append: no such topic, for a moment")
        if self.strikes(faults.append_lost):
            raise LogUnavailable("append: lost")
        self.cluster.refuse_too_big(records)
        positions = [self.cluster.put(record) for record in records]
        if self.strikes(faults.append_twice):
            positions = [self.cluster.put(record) for record in records]
        self.cluster.wake()
        stamped_at = self.cluster.now()
        await self.travel("append's answer")
        if self.strikes(faults.append_unknown):
            raise LogUnavailable("append: the answer is lost")
        self.time.stamped(stamped_at)
        return positions

    async def open_writer(self, transactional_id: str) -> "MemoryWriter":
        await self.travel("open_writer")
        epoch = self.cluster.epochs[transactional_id] = (
            self.cluster.epochs.get(transactional_id, 0) + 1
        )
        return MemoryWriter(self, transactional_id, epoch)

    async def open_reader(self, starts: Mapping[Partition, int]) -> "MemoryReader":
        await self.travel("open_reader")
        return MemoryReader(self, dict(starts))

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        await self.travel("ends")
        return {each: self._end(each) for each in partitions}

    def _end(self, partition: Partition) -> int:
        """Return the end of a partition; now and then the one of a transaction ago."""
        entries = self.cluster.stored[partition]
        end = len(entries)
        is_journal = partition.topic == self.cluster.topics.events
        if is_journal and self.strikes(self.cluster.faults.stale_end):
            while end and entries[end - 1] is None:
                end -= 1
            while end and entries[end - 1] is not None:
                end -= 1
        return end

    async def begins(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        await self.travel("begins")
        return {each: self.cluster.begins.get(each, 0) for each in partitions}

    async def identify(self, topics: Sequence[str]) -> Mapping[str, Identity]:
        await self.travel("identify")
        cluster = self.cluster
        return {
            name: Identity(
                id=f"{name}#{cluster.makings[name]}",
                copies=cluster.copies,
                epochs=(cluster.elections,) * cluster.partitions,
            )
            for name in topics
            if Partition(name, 0) in cluster.stored
        }

    async def noted(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Noted]:
        await self.travel("noted")
        notes = self.cluster.notes.get(group, {})
        return {each: notes[each] for each in partitions if each in notes}

    async def join(self, group: str, topics: Sequence[str]) -> "MemoryMembership":
        await self.travel("join")
        membership = MemoryMembership(self, group)
        self._memberships.append(membership)
        membership.enter()
        return membership


class MemoryWriter:
    """The one transactional writer of an id; a higher epoch fences it."""

    def __init__(self, log: MemoryLog, transactional_id: str, epoch: int) -> None:
        self._log = log
        self._id = transactional_id
        self._epoch = epoch
        self._is_dead = False
        self._due: dict[Partition, int] = {}

    def expect(self, place: Partition, offset: int) -> None:
        self._due[place] = offset

    async def commit(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        if self._is_dead:
            raise LogUnavailable(f"writer {self._id} is dead")
        self._is_dead = True
        await self._log.travel("commit")
        cluster = self._log.cluster
        if cluster.is_fencing and cluster.epochs[self._id] != self._epoch:
            raise Fenced(f"writer {self._id} of epoch {self._epoch}")
        if self._log.strikes(cluster.faults.commit_lost):
            cluster.abort(records)
            raise LogUnavailable("commit: lost")
        try:
            cluster.refuse_too_big(records)
        except RecordTooBig:
            cluster.abort(records)
            raise
        meant = self._due.keys() & {(each.topic, each.partition) for each in records}
        for place in meant:
            if len(cluster.stored[place]) != self._due[place]:
                cluster.abort(records)
                raise LogUnavailable(f"commit: {place} does not end where it should")
        positions = [cluster.put(record) for record in records]
        topics = [record.topic for record in records]
        cluster.mark(list(zip(topics, positions, strict=True)))
        for place in meant:
            self._due[place] = len(cluster.stored[place])
        cluster.wake()
        # Written; whoever dies now never learns of it.
        if self._log.strikes(cluster.faults.commit_unknown):
            raise LogUnavailable("commit: the answer is lost")
        await self._log.travel("commit's answer")
        self._is_dead = False
        return positions

    async def close(self) -> None:
        self._is_dead = True


class MemoryReader:
    """Reads committed records from chosen offsets."""

    def __init__(self, log: MemoryLog, positions: dict[Partition, int]) -> None:
        self._log = log
        self._positions = positions
        self._read_up_s: dict[Partition, float] = {}

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        await self._log.travel("poll")
        if self._log.strikes(self._log.cluster.faults.topic_unseen):
            raise TopicMissing("poll: no such topic, for a moment")
        if self._log.strikes(self._log.cluster.faults.read_lost):
            raise LogUnavailable("poll: lost")
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while not (found := self._take(records_max)):
            left_s = end_s - loop.time()
            if left_s <= 0:
                return []
            future: asyncio.Future[None] = loop.create_future()
            self._log.cluster.waiting.append(future)
            try:
                async with asyncio.timeout(left_s):
                    await future
            except TimeoutError:
                return []
        return found

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        order = sorted(self._positions)
        is_apart = self._log.strikes(self._log.cluster.faults.reorder)
        if is_apart:
            self._log.cluster.random.shuffle(order)
        for partition in order:
            if is_apart and found:
                break
            entries = self._log.cluster.stored[partition]
            place = self._positions[partition]
            if place > len(entries):
                raise OffsetGone(f"{partition} ends before {place}")
            if place < self._log.cluster.begins.get(partition, 0):
                raise OffsetGone(f"{partition} begins after {place}")
            while place < len(entries) and len(found) < records_max:
                record = entries[place]
                if record is not None and not self._is_forgotten(record):
                    found.append(record)
                place += 1
            self._positions[partition] = place
            if place >= len(entries):
                self._read_up_s[partition] = asyncio.get_running_loop().time()
        return found

    def _is_forgotten(self, record: Record) -> bool:
        is_one = (
            self._log.attempts_unheard > 0
            and record.headers.get("ce_type") == b"RunAttempt"
            and record.key == self._log.name.encode()
        )
        self._log.attempts_unheard -= is_one
        return is_one

    def read_up_s(self, partition: Partition) -> float | None:
        return self._read_up_s.get(partition)

    async def position(self, partition: Partition) -> int:
        return self._positions[partition]

    async def close(self) -> None:
        return None


class MemoryMembership:
    """A member of a group."""

    def __init__(self, log: MemoryLog, group: str) -> None:
        self._log = log
        self._group = group
        self._is_closed = False
        self.numbers: frozenset[int] = frozenset()

    @property
    def _members(self) -> list["MemoryMembership"]:
        return self._log.cluster.groups.setdefault(self._group, [])

    def enter(self) -> None:
        """Become a member."""
        if self not in self._members:
            self._members.append(self)
            self._log.cluster.rebalance(self._group)

    def expire(self) -> None:
        """Be taken for dead: the others share its partitions; it does not know."""
        if self in self._members:
            self._members.remove(self)
            self._log.cluster.rebalance(self._group)

    def expire_and_rejoin(self, after_s: float) -> None:
        """Be taken for dead, and come back."""
        self.expire()
        asyncio.get_running_loop().call_later(after_s, self._rejoin)

    def _rejoin(self) -> None:
        if not self._log.is_dead and not self._is_closed:
            self.enter()

    async def assigned(self, *, wait_s: float) -> frozenset[int]:
        await self._log.travel("assigned")
        before = self.numbers
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while self.numbers == before and (left_s := end_s - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left_s, 0.1))
        return self.numbers

    async def note(self, notes: Mapping[Partition, Noted]) -> None:
        await self._log.travel("note")
        if self not in self._members or any(each.number not in self.numbers for each in notes):
            raise LogUnavailable("note: the group gave it to another member")
        self._log.cluster.notes.setdefault(self._group, {}).update(notes)

    async def close(self) -> None:
        self._is_closed = True
        if not self._log.is_dead:
            self.expire()
