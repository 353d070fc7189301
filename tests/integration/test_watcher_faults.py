"""A real watcher on a journal that the test writes, as only a scheduler may: the odd cases."""

import asyncio
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from cli.local.properties import free_port
from events.codec import decode_command, encode
from events.commands import QuarantineBench
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing
from events.message import CommandMessage, EventMessage
from events.topics import Topics, specs
from processors.watchers.bench_health.service import FATAL
from tests.integration.roles import Process, watcher
from tests.kafka import embedded_kafka
from tests.on_log import read_all
from tests.unit.processors.watchers.facts_of import error, message, policy

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(200)]

PARTITIONS = 2
SEEN_S_MAX = 60.0
QUIET_S = 2.0
STOPPED_S_MAX = 15.0
"""The watcher ends itself after 5 s; the rest is for a machine under load."""
NOW = datetime.now(UTC)
UNKNOWN = struct.pack(">bI", 0, 999_999) + b"of a later version"


@pytest.fixture
def health_port() -> int:
    return free_port()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """One that a test may break."""
    with embedded_kafka(ClusterConfig(data_dir=tmp_path / "kafka")) as cluster:
        yield cluster


async def prepare(kafka: str, topics: Topics) -> None:
    await ensure_topics(kafka, specs(topics, partitions=PARTITIONS, min_insync=1), replication=1)


async def write(log: Log, topics: Topics, *values: bytes) -> None:
    """Write to partition 0 of the journal, in one transaction."""
    writer = await log.open_writer(f"{topics.prefix}-test")
    await writer.commit(outgoing(topics, values))
    await writer.close()


def outgoing(topics: Topics, values: Sequence[bytes]) -> list[Outgoing]:
    return [Outgoing(topic=topics.events, key=b"lab", value=value, partition=0) for value in values]


async def commands(log: Log, topics: Topics) -> list[CommandMessage]:
    records = await read_all(log, topics.commands)
    return [decode_command(record.value) for record in records]


async def until_asked(log: Log, topics: Topics, bench: str) -> list[str]:
    """Wait until a command is there for `bench`; return the benches of all that are."""
    end_s = asyncio.get_running_loop().time() + SEEN_S_MAX
    while True:
        found = []
        for each in await commands(log, topics):
            assert isinstance(each.body, QuarantineBench)
            found.append(each.body.bench)
        if bench in found:
            return found
        assert asyncio.get_running_loop().time() < end_s, f"nobody asked for {bench}: {found}"
        await asyncio.sleep(0.3)


async def until_ready(port: int) -> None:
    end_s = asyncio.get_running_loop().time() + SEEN_S_MAX
    async with httpx.AsyncClient() as client:
        while True:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/readyz")
                if answer.status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            assert asyncio.get_running_loop().time() < end_s, "the watcher is not ready"
            await asyncio.sleep(0.1)


def sick(bench: str, seq: int) -> EventMessage:
    return message(error(bench), seq=seq, at_s=float(seq), start=NOW)


STRICT = message(policy(0, 3600), seq=0, at_s=0.0, start=NOW)


def test_what_was_aborted_was_never_there(
    kafka: str, topic_prefix: str, tmp_path: Path, health_port: int
) -> None:
    async def abort(topics: Topics, *values: bytes) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{topic_prefix}-a")
        await producer.start()
        await producer.begin_transaction()
        for each in outgoing(topics, values):
            await producer.send_and_wait(each.topic, each.value, key=each.key, partition=0)
        await producer.abort_transaction()
        await producer.stop()

    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        port = ("--health-port", str(health_port))
        async with KafkaLog(kafka, client_id="test") as log:
            await abort(
                topics,
                encode(message(policy(0, 9), seq=0, at_s=0, start=NOW)),
                encode(sick("ghost-1", 1)),
            )
            with watcher(kafka, topic_prefix, tmp_path, *port):
                await until_ready(health_port)
                await write(log, topics, encode(STRICT))
                await abort(topics, encode(sick("ghost-2", 1)), encode(sick("ghost-3", 2)))
                await write(log, topics, encode(sick("real", 1)))
                await until_asked(log, topics, "real")
                await asyncio.sleep(QUIET_S)
                assert await until_asked(log, topics, "real") == ["real"]

    asyncio.run(scenario())


def test_what_it_cannot_read_is_counted_told_and_skipped(
    kafka: str, topic_prefix: str, tmp_path: Path, health_port: int
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        port = ("--health-port", str(health_port))
        async with KafkaLog(kafka, client_id="test") as log:
            await write(log, topics, encode(STRICT), UNKNOWN)
            with watcher(kafka, topic_prefix, tmp_path, *port) as process:
                await until_ready(health_port)
                await write(log, topics, b"no avro", UNKNOWN)
                await write(log, topics, encode(sick("b1", 3)))
                await until_asked(log, topics, "b1")
                async with httpx.AsyncClient() as client:
                    url = f"http://127.0.0.1:{health_port}/metrics"
                    counted = (await client.get(url)).text
        told = process.log.read_text().count("watcher.record_skipped")
        assert told == 3, "one in the fold, two in the stream"
        assert "teo_watcher_skipped_total" in counted
        (line,) = [x for x in counted.splitlines() if x.startswith("teo_watcher_skipped_total{")]
        assert line.endswith(" 3.0")

    asyncio.run(scenario())


def test_a_hole_in_the_journal_ends_the_process_and_asks_for_nothing(
    kafka: str, topic_prefix: str, tmp_path: Path, health_port: int
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        port = ("--health-port", str(health_port))
        async with KafkaLog(kafka, client_id="test") as log:
            await write(log, topics, encode(STRICT))
            with watcher(kafka, topic_prefix, tmp_path, *port) as process:
                await until_ready(health_port)
                await write(log, topics, encode(sick("b1", 2)))
                assert process.wait() == FATAL
            assert "journal_broken" in process.log.read_text()
            assert await commands(log, topics) == []

    asyncio.run(scenario())


def test_another_watcher_takes_over_from_one_that_was_killed(
    kafka: str, topic_prefix: str, tmp_path: Path, health_port: int
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        port = ("--health-port", str(health_port))
        async with KafkaLog(kafka, client_id="test") as log:
            await write(log, topics, encode(STRICT), encode(sick("b0", 1)))
            with (
                watcher(kafka, topic_prefix, tmp_path, *port) as first,
                watcher(kafka, topic_prefix, tmp_path) as second,
            ):
                await until_asked(log, topics, "b0")
                await write(log, topics, encode(sick("b1", 2)))
                await until_asked(log, topics, "b1")
                first.kill()
                await write(log, topics, encode(sick("b2", 3)))
                await until_asked(log, topics, "b2")
                second.kill()
                with watcher(kafka, topic_prefix, tmp_path):
                    await write(log, topics, encode(sick("b3", 4)))
                    await until_asked(log, topics, "b3")
            ids: dict[str, set[str]] = {}
            for each in await commands(log, topics):
                assert isinstance(each.body, QuarantineBench)
                ids.setdefault(each.body.bench, set()).add(each.meta.command_id)
            assert sorted(ids) == ["b0", "b1", "b2", "b3"]
            assert all(len(each) == 1 for each in ids.values()), "every repeat has the same id"

    asyncio.run(scenario())


def test_who_comes_late_asks_for_nothing_that_is_long_past(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        long_ago = message(error("old"), seq=1, at_s=0.0, start=NOW - timedelta(days=3))
        async with KafkaLog(kafka, client_id="test") as log:
            await write(log, topics, encode(STRICT), encode(long_ago), encode(sick("b1", 2)))
            with watcher(kafka, topic_prefix, tmp_path):
                assert await until_asked(log, topics, "b1") == ["b1"]
                await write(log, topics, encode(sick("old", 3)))
                assert await until_asked(log, topics, "old") == ["b1", "old"]

    asyncio.run(scenario())


def test_without_topics_it_says_so(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    with watcher(kafka, topic_prefix, tmp_path) as process:
        assert process.wait() == FATAL
    assert "teo init" in process.log.read_text()


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_sigterm_ends_it_in_seconds_also_without_kafka(
    own_kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, health_port: int, how: str
) -> None:
    async def scenario() -> None:
        topics, kafka = Topics(topic_prefix), own_kafka.bootstrap
        await prepare(kafka, topics)
        port = ("--health-port", str(health_port))
        with watcher(kafka, topic_prefix, tmp_path, *port) as process:
            await until_ready(health_port)
            if how == "killed":
                own_kafka.kill(1)
            else:
                own_kafka.pause(1)
            try:
                await asyncio.sleep(QUIET_S)
                ended_well(process)
            finally:
                if how == "paused":
                    own_kafka.resume(1)

    asyncio.run(scenario())


def test_sigterm_ends_it_in_seconds_when_it_waits_for_kafka_or_works(
    kafka: str, topic_prefix: str, tmp_path: Path, health_port: int
) -> None:
    nobody = f"127.0.0.1:{health_port}"

    async def scenario() -> None:
        with watcher(nobody, topic_prefix, tmp_path) as process:
            end_s = asyncio.get_running_loop().time() + SEEN_S_MAX
            while "role.started" not in process.log.read_text():
                assert asyncio.get_running_loop().time() < end_s, "it did not start"
                await asyncio.sleep(0.1)
            await asyncio.sleep(QUIET_S)
            ended_well(process)
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        with watcher(kafka, topic_prefix, tmp_path, "--health-port", str(health_port)) as process:
            await until_ready(health_port)
            ended_well(process)

    asyncio.run(scenario())


def ended_well(process: Process) -> None:
    code, took_s = process.terminate()
    assert code == 0, process.log.read_text()[-2_000:]
    assert took_s < STOPPED_S_MAX
