"""A Kafka cluster as `events.log.Log`."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from events.append_time import AppendTime
from events.errors import LogUnavailable, TopicMissing
from events.kafka.errors import REQUEST_BYTES_MAX, mapped, refuse_too_big
from events.kafka.membership import KafkaMembership
from events.kafka.reader import KafkaReader
from events.kafka.requests import TopicsRequest
from events.kafka.whole import dropped, started, stopped
from events.kafka.writer import COMMIT_S_MAX, KafkaWriter
from events.log import Identity, Noted, Outgoing, Partition, Position
from events.topics import prefix_flag

APPEND_S_MAX = 10.0
START_S_MAX = 10.0
METADATA_TRIES = 50
METADATA_WAIT_S = 0.1
_APPEND_TIME = 1
"""Kafka's word for a stamp that the broker made."""
NOTED_S_MAX = 10.0
IDENTIFY_S_MAX = 5.0
"""A broker that hangs is not waited for: another try asks another one."""


class KafkaLog:
    """Satisfies `events.log.Log`. `security` is passed on to every client (TLS, SASL).

    `commit_s` is how long a transaction of a writer may take before its outcome counts as unknown.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        security: Mapping[str, Any] | None = None,
        commit_s: float = COMMIT_S_MAX,
    ) -> None:
        self.time = AppendTime(time.monotonic)
        """The log's time, told by what was appended here."""
        self._commit_s = commit_s
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            **(security or {}),
        }
        self._producer: AIOKafkaProducer | None = None
        self._asker: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._drop_producer()
        finally:
            asker, self._asker = self._asker, None
            if asker is not None:
                await stopped(asker)
            await self._drop_admin()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions `topic` has. Raises `TopicMissing`."""
        asker = await self._ask()
        with mapped(f"ask for the partitions of {topic}"):
            for _ in range(METADATA_TRIES):
                cluster = await asker._client.fetch_all_metadata()  # noqa: SLF001 - no other way.
                found = cluster.partitions_for_topic(topic)
                if found:
                    return len(found)
                await asyncio.sleep(METADATA_WAIT_S)
        raise TopicMissing(
            f"topic {topic} does not exist; create the topics with `teo init{prefix_flag(topic)}`"
        )

    def partition_for(self, key: bytes, partitions: int) -> int:
        """Return the partition of `key`: murmur2, as every Kafka client's default."""
        return int((murmur2(key) & 0x7FFFFFFF) % partitions)

    async def append(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        """Write `records` in order, idempotently; return where they stand."""
        what = f"append {len(records)} records"
        refuse_too_big(what, records)
        producer = await self._open_producer()
        try:
            with mapped(what, records):
                async with asyncio.timeout(APPEND_S_MAX):
                    sent = [
                        await producer.send(
                            each.topic,
                            value=each.value,
                            key=each.key,
                            partition=each.partition,
                            headers=list(each.headers.items()),
                        )
                        for each in records
                    ]
                    placed = [await future for future in sent]
        except Exception:
            if self._producer is producer:
                await self._drop_producer()
            raise
        stamps_ms = [each.timestamp for each in placed if each.timestamp_type == _APPEND_TIME]
        if stamps_ms:
            self.time.stamped(datetime.fromtimestamp(max(stamps_ms) / 1000, UTC))
        return [Position(each.partition, each.offset) for each in placed]

    async def open_writer(self, transactional_id: str) -> KafkaWriter:
        """Fence every older writer of `transactional_id`, take over."""
        return await KafkaWriter.open(transactional_id, self._settings, commit_s=self._commit_s)

    async def open_reader(self, starts: Mapping[Partition, int]) -> KafkaReader:
        """Return a reader of exactly these partitions, from these offsets."""
        return await KafkaReader.open(starts, self._settings)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return for each partition the offset that follows its last committed record."""
        asker = await self._ask()
        with mapped("ask for the ends"):
            found = await asker.end_offsets([TopicPartition(*each) for each in partitions])
        return {Partition(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def begins(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return for each partition the offset of its first kept record."""
        asker = await self._ask()
        with mapped("ask for the begins"):
            found = await asker.beginning_offsets([TopicPartition(*each) for each in partitions])
        return {Partition(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def identify(self, topics: Sequence[str]) -> Mapping[str, Identity]:
        """Return which topics those are that have these names now; a missing one is not in."""
        client = (await self._ask())._client  # noqa: SLF001 - no other way.
        with mapped("ask which topics there are"):
            node = client.get_random_node()
            if node is None:
                raise LogUnavailable("no broker is known")
            async with asyncio.timeout(IDENTIFY_S_MAX):
                answer = await client.send(node, TopicsRequest(list(topics)))
        return {
            each["topic"]: _identity(each)
            for each in answer.to_object()["topics"]
            if each["error_code"] == 0
        }

    async def noted(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Noted]:
        """Return what the members of `group` said last; not of partitions of which none did."""
        asked = [TopicPartition(*each) for each in partitions]
        try:
            with mapped(f"ask what group {group} says"):
                async with asyncio.timeout(NOTED_S_MAX):
                    client = await self._open_admin()
                    found = await client.list_consumer_group_offsets(group, partitions=asked)
        except BaseException:
            await self._drop_admin()
            raise
        return {
            Partition(tp.topic, tp.partition): Noted(said.offset, said.metadata or "")
            for tp, said in found.items()
            if said.offset >= 0
        }

    async def join(self, group: str, topics: Sequence[str]) -> KafkaMembership:
        """Join consumer group `group` over `topics`, which have equally many partitions."""
        return await KafkaMembership.join(group, topics, self._settings)

    async def _open_producer(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._settings,
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    max_request_size=REQUEST_BYTES_MAX,
                    request_timeout_ms=int(APPEND_S_MAX * 1000),
                )
                with mapped("start a producer"):
                    await started(
                        producer,
                        limit_s=START_S_MAX,
                        stop=lambda: dropped(producer, limit_s=START_S_MAX),
                    )
                self._producer = producer
            return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await dropped(producer, limit_s=START_S_MAX)

    async def _open_admin(self) -> AIOKafkaAdminClient:
        async with self._lock:
            if self._admin is None:
                self._admin = AIOKafkaAdminClient(**self._settings)
                await self._admin.start()
            return self._admin

    async def _drop_admin(self) -> None:
        client, self._admin = self._admin, None
        if client is not None:
            await client.close()

    async def _ask(self) -> AIOKafkaConsumer:
        async with self._lock:
            if self._asker is None:
                asker = AIOKafkaConsumer(**self._settings, isolation_level="read_committed")
                with mapped("connect"):
                    await started(asker, limit_s=START_S_MAX)
                self._asker = asker
            return self._asker


def _identity(topic: Mapping[str, Any]) -> Identity:
    parts = sorted(topic["partitions"], key=lambda part: part["partition"])
    return Identity(
        id=topic.get("topic_id", ""),
        copies=min((len(part["replicas"]) for part in parts), default=0),
        epochs=tuple(part["leader_epoch"] for part in parts if "leader_epoch" in part),
    )
