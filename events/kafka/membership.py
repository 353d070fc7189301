"""Membership of a consumer group for its assignment: it reads nothing, and what it commits says how
far its partitions are, for people and for the API; nobody starts from there."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from events.kafka.errors import mapped
from events.kafka.whole import started, stopped
from events.log import Noted, Partition

SESSION_MS = 6_000
HEARTBEAT_MS = 500
JOIN_S_MAX = 30.0
NOTE_S_MAX = 5.0


class KafkaMembership:
    """Satisfies `events.log.Membership`."""

    def __init__(self, consumer: AIOKafkaConsumer, watch: "_Watch") -> None:
        self._consumer = consumer
        self._watch = watch

    @classmethod
    async def join(
        cls, group: str, topics: Sequence[str], settings: Mapping[str, Any]
    ) -> "KafkaMembership":
        """Join `group` over `topics`; the range assignor gives equal numbers of each."""
        consumer = AIOKafkaConsumer(
            **settings,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=24 * 3600 * 1000,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        watch = _Watch(consumer)
        consumer.subscribe(topics=list(topics), listener=watch)
        with mapped(f"join group {group}"):
            await started(consumer, limit_s=JOIN_S_MAX)
        return cls(consumer, watch)

    async def assigned(self, *, wait_s: float) -> frozenset[int]:
        """Return the partition numbers owned now; waits up to `wait_s` for a change."""
        watch = self._watch
        if watch.changed.is_set():
            watch.changed.clear()
            return watch.numbers
        try:
            async with asyncio.timeout(wait_s):
                await watch.changed.wait()
            watch.changed.clear()
        except TimeoutError:
            pass
        return watch.numbers

    async def note(self, notes: Mapping[Partition, Noted]) -> None:
        """Say how far partitions that this member owns are: as offsets that the group commits."""
        offsets = {TopicPartition(*place): tuple(noted) for place, noted in notes.items()}
        with mapped("say how far the partitions are"):
            async with asyncio.timeout(NOTE_S_MAX):
                await self._consumer.commit(offsets)

    async def close(self) -> None:
        """Leave the group at once."""
        await stopped(self._consumer)


class _Watch(ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps the assignment; pauses it, so that nothing is fetched."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.numbers: frozenset[int] = frozenset()
        self.changed = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Keep what was owned: a new owner fences, and most often it comes back to us."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take the new assignment."""
        tps = list(assigned)
        self._consumer.pause(*tps)
        self.numbers = frozenset(tp.partition for tp in tps)
        self.changed.set()
