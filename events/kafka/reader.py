"""Reads chosen partitions from chosen offsets, committed records only."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from events.errors import LogUnavailable, OffsetGone
from events.kafka.errors import mapped
from events.kafka.whole import started, stopped
from events.log import Partition, Record

OPEN_S_MAX = 10.0
"""A broker that is cut off is not waited for: another try asks another one."""
FETCH_WAIT_MS_MAX = 500
FETCH_BYTES_MAX = 8 * 1024 * 1024


class KafkaReader:
    """Satisfies `events.log.Reader`."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    @classmethod
    async def open(
        cls, starts: Mapping[Partition, int], settings: Mapping[str, Any]
    ) -> "KafkaReader":
        """Return a reader of exactly these partitions, from these offsets."""
        consumer = AIOKafkaConsumer(
            **settings,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        with mapped("open a reader"):
            await started(consumer, limit_s=OPEN_S_MAX)
            try:
                consumer.assign([TopicPartition(*each) for each in starts])
                for each, offset in starts.items():
                    consumer.seek(TopicPartition(*each), offset)
            except BaseException:
                await stopped(consumer)
                raise
        return cls(consumer)

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        """Return up to `records_max` records, in order within a partition; [] after `wait_s`."""
        try:
            with mapped("read"):
                found = await self._consumer.getmany(
                    timeout_ms=int(wait_s * 1000), max_records=records_max
                )
        except LogUnavailable as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                raise OffsetGone(
                    f"an offset is not in the log: {error.__cause__}; the topic was kept too "
                    "shortly, was made anew, or is of another cluster: restore it, or give all "
                    "topics a new prefix"
                ) from error
            raise
        return [_record(each) for part in found.values() for each in part]

    async def position(self, partition: Partition) -> int:
        """Return the offset that the next poll of `partition` goes on from."""
        with mapped("ask for a position"):
            offset: int = await self._consumer.position(TopicPartition(*partition))
        return offset

    async def close(self) -> None:
        """Give back the connection. Idempotent."""
        await stopped(self._consumer)


def _record(raw: ConsumerRecord) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp=datetime.fromtimestamp(raw.timestamp / 1000, UTC),
        key=raw.key,
        value=raw.value,
        headers=dict(raw.headers),
    )
