"""The embedded Kafka as its users meet it: real JVMs, real records, real kills."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cli.local import BrokerFailed, DataFolderRefused, PortBusy
from cli.local.cluster import ClusterConfig, EmbeddedKafka

pytestmark = pytest.mark.broker

deadline_s = 30.0
big_record_bytes = 5 * 1024 * 1024


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create_topic(bootstrap: str, topic: str, copies: int = 1) -> None:
    async with admin(bootstrap) as client:
        await client.create_topics([NewTopic(topic, 1, copies)])


@asynccontextmanager
async def producer(bootstrap: str, **more: object) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        max_request_size=2 * big_record_bytes,
        request_timeout_ms=2_000,  # The default waits 40 s for a paused leader.
        **more,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(deadline_s):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + deadline_s
    while not fact():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """The JVMs and supervisors whose command line names this folder."""
    listed = subprocess.run(["ps", "-Awwo", "stat=,args="], capture_output=True, text=True)
    lines = [line.strip() for line in listed.stdout.splitlines() if str(folder) in line]
    return [line for line in lines if not line.startswith("Z") and "-Djava.io.tmpdir" in line]


def test_records_and_addresses_are_kept_between_runs(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    told: list[str] = []

    async def first() -> tuple[str, str]:
        config = ClusterConfig(data_dir=folder, bytes_max=2 * big_record_bytes)
        async with EmbeddedKafka(config, on_progress=told.append) as kafka:
            await create_topic(kafka.bootstrap, "kept")
            writing = producer(kafka.bootstrap, transactional_id="t")
            async with writing as client, client.transaction():
                await client.send_and_wait("kept", b"small")
                await client.send_and_wait("kept", b"x" * big_record_bytes)
            return kafka.bootstrap, kafka.cluster_id

    async def second() -> tuple[str, str, list[bytes]]:
        async with EmbeddedKafka(ClusterConfig(data_dir=folder)) as kafka:
            return kafka.bootstrap, kafka.cluster_id, await read(kafka.bootstrap, "kept", 2)

    bootstrap, cluster_id = asyncio.run(first())
    assert processes_of(folder) == []
    assert any("starting Apache Kafka" in text for text in told)
    again, cluster_id_again, records = asyncio.run(second())
    assert records == [b"small", b"x" * big_record_bytes]
    assert cluster_id_again == cluster_id
    assert again == bootstrap


def test_records_survive_kill_9_of_the_broker_and_a_paused_one_can_be_stopped(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with EmbeddedKafka(ClusterConfig(data_dir=tmp_path)) as kafka:
            await create_topic(kafka.bootstrap, "kept")
            async with producer(kafka.bootstrap) as client:
                await client.send_and_wait("kept", b"acknowledged")
            kafka.kill(1)
            assert not kafka.is_alive(1)
            assert processes_of(tmp_path) == []
            await kafka.restart(1)
            assert await read(kafka.bootstrap, "kept", 1) == [b"acknowledged"]
            kafka.pause(1)
        assert processes_of(tmp_path) == []

    asyncio.run(scenario())


parent_script = """
import asyncio, sys
from pathlib import Path
from cli.local.cluster import ClusterConfig, EmbeddedKafka

async def main():
    kafka = EmbeddedKafka(ClusterConfig(data_dir=Path(sys.argv[1])))
    await kafka.start()
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_kill_9_of_the_parent_leaves_no_jvm_and_the_folder_can_be_used_at_once(
    tmp_path: Path,
) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", parent_script, str(tmp_path)]

    async def refused(pid: int) -> None:
        with pytest.raises(DataFolderRefused, match=f"by the process {pid}"):
            await EmbeddedKafka(ClusterConfig(data_dir=tmp_path)).start()

    async def started_again() -> None:
        async with EmbeddedKafka(ClusterConfig(data_dir=tmp_path)):
            assert len(processes_of(tmp_path)) == 2, "a JVM of the killed parent is still there"

    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            assert any(line == "started\n" for line in parent.stdout)
            assert len(processes_of(tmp_path)) == 2
            asyncio.run(refused(parent.pid))
        finally:
            parent.kill()
    asyncio.run(started_again())
    assert processes_of(tmp_path) == []


def test_kill_9_of_the_parent_alone_ends_the_jvm(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", parent_script, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            assert any(line == "started\n" for line in parent.stdout)
        finally:
            parent.kill()
    asyncio.run(until(lambda: processes_of(tmp_path) == [], "the end of all JVMs"))


def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        kafka = EmbeddedKafka(ClusterConfig(data_dir=tmp_path))
        starting = asyncio.create_task(kafka.start())
        await until(lambda: processes_of(tmp_path) != [], "the first JVM")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert processes_of(tmp_path) == []
        async with kafka:
            assert kafka.is_alive(1)

    asyncio.run(scenario())


def test_a_taken_port_is_refused_and_the_folder_stays_usable(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(PortBusy, match=str(port)):
                await EmbeddedKafka(ClusterConfig(data_dir=tmp_path, port=port)).start()
        assert processes_of(tmp_path) == []
        async with EmbeddedKafka(ClusterConfig(data_dir=tmp_path, port=port)) as kafka:
            assert kafka.bootstrap == f"127.0.0.1:{port}"
            if sys.platform == "linux":
                assert {address for address, bound in listening() if bound == port} == {"0100007F"}

    asyncio.run(scenario())


def listening() -> list[tuple[str, int]]:
    """All listening TCP sockets, as the kernel writes them: address in hex, port."""
    rows = []
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.split(":")
                rows.append((address, int(port, 16)))
    return rows


def test_a_broker_that_cannot_run_shows_the_end_of_its_log(tmp_path: Path) -> None:
    too_small_mb = 2
    kafka = EmbeddedKafka(ClusterConfig(data_dir=tmp_path, heap_mb=too_small_mb))
    with pytest.raises(BrokerFailed, match=r"(?s)The end of .*\.log:.*(heap|Heap|memory)"):
        asyncio.run(kafka.start())
    assert processes_of(tmp_path) == []


async def setting(bootstrap: str, topic: str, name: str) -> str:
    """One setting of a topic, as soon as the broker that is asked has heard of it."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    deadline = time.monotonic() + deadline_s
    async with admin(bootstrap) as client:
        while time.monotonic() < deadline:
            (answer,) = await client.describe_configs([resource])
            entries = {entry[0]: str(entry[1]) for entry in answer.resources[0][4]}
            if name in entries:
                return entries[name]
            await asyncio.sleep(0.05)
    raise AssertionError(f"{topic} has no {name} after {deadline_s} s")


def test_three_brokers_lose_one_and_lose_nothing(
    three_brokers: EmbeddedKafka, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}kept"
    bootstrap = three_brokers.bootstrap

    async def scenario() -> None:
        await create_topic(bootstrap, topic, copies=3)
        assert await setting(bootstrap, topic, "min.insync.replicas") == "2"
        async with producer(bootstrap, acks="all") as client:
            await client.send_and_wait(topic, b"by three")
            three_brokers.kill(2)
            async with asyncio.timeout(deadline_s):
                await client.send_and_wait(topic, b"by two")
            await three_brokers.restart(2)
            three_brokers.pause(3)
            async with asyncio.timeout(deadline_s):
                await client.send_and_wait(topic, b"by the others")
            await three_brokers.heal()
        assert await read(bootstrap, topic, 3) == [b"by three", b"by two", b"by the others"]
        assert all(three_brokers.is_alive(node) for node in (1, 2, 3))

    asyncio.run(scenario())


def test_the_shared_broker_creates_no_topic_by_itself(kafka: str, topic_prefix: str) -> None:
    async def scenario() -> None:
        async with admin(kafka) as client:
            (described,) = await client.describe_topics([f"{topic_prefix}unknown"])
            assert described["error_code"] == 3  # Unknown topic or partition.
            assert f"{topic_prefix}unknown" not in await client.list_topics()

    asyncio.run(scenario())
