"""Reads chosen partitions from chosen offsets, committed records only."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from events.append_time import time_of
from events.errors import LogUnavailable, OffsetGone
from events.kafka.errors import mapped
from events.kafka.whole import started, stopped
from events.log import Partition, Record, told_headers

OPEN_S_MAX = 10.0
"""A broker that is cut off is not waited for: another try asks another one."""
FETCH_WAIT_MS_MAX = 500
FETCH_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Answer:
    """The newest answer to a fetch: when it came, by a clock that may be wrong, so only its name.

    It was not seen yet at `unseen_s`, and it tells the end of after `bound_s`.
    """

    answered_ms: int
    unseen_s: float | None
    bound_s: float | None


class KafkaReader:
    """Satisfies `events.log.Reader`."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._answers: dict[Partition, _Answer] = {}
        self._read_up_s: dict[Partition, float] = {}
        self._looked_s: float | None = None
        """When it last looked for answers of the broker."""

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
        await self._look()
        return [_record(each) for part in found.values() for each in part]

    async def _look(self) -> None:
        """Note up to when each partition is read to its end, by the broker's newest answers.

        An answer tells the end of a partition as it was after its fetch was sent; that was sent
        once the answer before had come; and that came after the look before it was first seen.
        """
        now_s = time.monotonic()
        for raw in self._consumer.assignment():
            end = self._consumer.last_stable_offset(raw)
            answered_ms = self._consumer.last_poll_timestamp(raw)
            partition = Partition(*raw)
            if end is None or answered_ms is None:
                continue
            known = self._answers.get(partition)
            if known is None or known.answered_ms != answered_ms:
                bound_s = None if known is None else known.unseen_s
                known = _Answer(answered_ms, unseen_s=self._looked_s, bound_s=bound_s)
                self._answers[partition] = known
            if known.bound_s is not None and await self.position(partition) >= end:
                self._read_up_s[partition] = known.bound_s
        self._looked_s = now_s

    def read_up_s(self, partition: Partition) -> float | None:
        """Return when `partition` was read to its end, by the monotonic clock; None: not yet."""
        return self._read_up_s.get(partition)

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
        timestamp=time_of(raw.timestamp / 1000),
        key=raw.key,
        value=raw.value,
        headers=told_headers(raw.headers),
    )
