"""A client of Kafka that is cancelled at any moment leaves nothing open, and cancels nobody else.

What is left open is found by the garbage collection behind each test with a broker.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka.conn import AIOKafkaConnection

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from events.kafka import whole
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Outgoing, Partition
from events.topics import Topics, specs

pytestmark = pytest.mark.broker

TRIES = 25
SPREAD_S = 0.08
"""By then each of them is open, and most are being closed."""
WITHIN_S = 20.0
"""The grace of each is 2 s; by itself, a request to a frozen broker takes 40 s."""
READERS = 10
AWAY_S = 0.3
"""By then fetches have failed, and wait to be tried again."""


async def append(log: KafkaLog, topics: Topics) -> None:
    await log.append([Outgoing(topic=topics.commands, key=b"k", value=b"v")])


async def join(log: KafkaLog, topics: Topics) -> None:
    member = await log.join(f"{topics.prefix}group", [topics.commands, topics.reports])
    try:
        await member.assigned(wait_s=0.05)
    finally:
        await member.close()


async def read(log: KafkaLog, topics: Topics) -> None:
    reader = await log.open_reader({Partition(topics.events, 0): 0})
    try:
        await reader.poll(records_max=10, wait_s=0.05)
    finally:
        await reader.close()


async def write(log: KafkaLog, topics: Topics) -> None:
    await (await log.open_writer(f"{topics.prefix}writer")).close()


@pytest.mark.parametrize("again_s", [3600.0, 0.003])
@pytest.mark.parametrize("use", [append, join, read, write])
def test_nothing_stays_open(
    kafka: str,
    topic_prefix: str,
    use: Callable[[KafkaLog, Topics], Awaitable[None]],
    again_s: float,
) -> None:
    """Neither after one cancel nor after one every `again_s`."""
    topics = Topics(topic_prefix)

    async def once() -> None:
        async with KafkaLog(kafka, client_id="cancelled") as log:
            await use(log, topics)

    async def cancelled(after_s: float) -> None:
        task = asyncio.create_task(once())
        await asyncio.sleep(after_s)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=again_s)

    asyncio.run(ensure_topics(kafka, specs(topics, partitions=1, min_insync=1), replication=1))
    for number in range(TRIES):
        asyncio.run(cancelled(SPREAD_S * number / TRIES))


def test_a_reader_of_an_impossible_offset_leaves_nothing_open(kafka: str) -> None:
    async def scene() -> None:
        async with KafkaLog(kafka, client_id="impossible") as log:
            await log.open_reader({Partition("any", 0): -1})

    with pytest.raises(ValueError, match="ffset"):
        asyncio.run(scene())


def test_a_reader_whose_broker_is_away_is_closed_without_a_cancel(tmp_path: Path) -> None:
    """Once, such a cancel ended the owner of a partition without a word."""
    topics = Topics("gone")
    config = ClusterConfig(data_dir=tmp_path / "kafka", nodes=1)

    async def scene() -> list[BaseException | None]:
        async with EmbeddedKafka(config) as kafka:
            wanted = specs(topics, partitions=1, min_insync=1)
            await ensure_topics(kafka.bootstrap, wanted, replication=1)
            async with KafkaLog(kafka.bootstrap, client_id="gone") as log:
                starts = {Partition(topics.events, 0): 0}
                readers = [await log.open_reader(starts) for _ in range(READERS)]
                for reader in readers:
                    await reader.poll(records_max=1, wait_s=0.05)
                kafka.kill(1)
                await asyncio.sleep(AWAY_S)
                closed = [asyncio.create_task(reader.close()) for reader in readers]
                return await asyncio.gather(*closed, return_exceptions=True)

    assert asyncio.run(scene()) == [None] * READERS


def test_a_client_whose_broker_is_frozen_is_closed_within_moments_of_a_cancel(
    tmp_path: Path,
) -> None:
    """Without the cancel it waits for an answer: to leave its group, or to write."""
    topics = Topics("frozen")
    config = ClusterConfig(data_dir=tmp_path / "kafka", nodes=1)

    async def scene() -> tuple[float, list[AIOKafkaConnection]]:
        async with EmbeddedKafka(config) as kafka:
            wanted = specs(topics, partitions=1, min_insync=1)
            await ensure_topics(kafka.bootstrap, wanted, replication=1)
            log = KafkaLog(kafka.bootstrap, client_id="frozen")
            await append(log, topics)
            member = await log.join("frozen", [topics.commands])
            kafka.pause(1)
            ends = [member.close(), log.__aexit__(None, None, None), append(log, topics)]
            closing = [asyncio.create_task(end) for end in ends]
            await asyncio.sleep(AWAY_S)
            begun = asyncio.get_running_loop().time()
            for each in closing:
                each.cancel()
            await asyncio.wait(closing)
            took_s = asyncio.get_running_loop().time() - begun
            found = [each for each in gc.get_objects() if isinstance(each, AIOKafkaConnection)]
            still_open = [each for each in found if each.connected()]
            kafka.resume(1)
            return took_s, still_open

    took_s, still_open = asyncio.run(scene())
    assert took_s < WITHIN_S
    assert still_open == []


class Slow:
    """A client that notes how it was treated."""

    def __init__(self, start_s: float) -> None:
        self.said: list[str] = []
        self._start_s = start_s

    async def start(self) -> None:
        try:
            await asyncio.sleep(self._start_s)
        except asyncio.CancelledError:
            self.said.append("start cancelled")
            raise
        self.said.append("started")

    async def stop(self) -> None:
        self.said.append("stopped")


async def cancel_start(client: Slow) -> float:
    begun = asyncio.get_running_loop().time()
    task = asyncio.create_task(whole.started(client, limit_s=30.0))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return asyncio.get_running_loop().time() - begun


def test_a_start_that_is_cancelled_comes_through_and_is_stopped() -> None:
    client = Slow(0.1)
    asyncio.run(cancel_start(client))
    assert client.said == ["started", "stopped"]


def test_a_start_that_hangs_holds_up_a_cancel_for_a_moment_only() -> None:
    client = Slow(3600.0)
    assert asyncio.run(cancel_start(client)) < 30.0
    assert client.said == ["start cancelled", "stopped"]


def test_a_start_that_takes_too_long_is_stopped() -> None:
    client = Slow(3600.0)
    with pytest.raises(TimeoutError):
        asyncio.run(whole.started(client, limit_s=0.05))
    assert client.said == ["start cancelled", "stopped"]
