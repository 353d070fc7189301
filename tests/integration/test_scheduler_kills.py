"""Real scheduler processes on a real Kafka, killed and stopped under load; the log is the judge."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from events.codec import decode, decode_event, encode
from events.commands import ApplyBenches, Command, ReleaseReservation, RequestReservation
from events.dlq import DeadLetter
from events.errors import LogUnavailable
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing, Partition, Record
from events.message import EventMessage, Message
from events.shared import BenchSpec, CommandMeta
from events.topics import Topics, specs
from processors.runtime.recovery import recover
from tests.sim.checkers import check_journal

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(280)]

PARTITIONS = 2
POOLS = ("lab-a", "lab-b", "lab-c")
COMMANDS = 5_000
KILLS = 20
PAUSES = 3
DECIDED_S_MAX = 90.0


class Process:
    """One scheduler, as an operating system process."""

    def __init__(self, kafka: str, prefix: str) -> None:
        command = [sys.executable, "-m", "cli.main", "serve", "scheduler"]
        self._process = subprocess.Popen(
            [*command, "--kafka", kafka, "--topic-prefix", prefix],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill -9, and wait."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(30)


@contextmanager
def scheduler(kafka: str, prefix: str) -> Iterator[Process]:
    process = Process(kafka, prefix)
    try:
        yield process
    finally:
        process.kill()


def command(pool: str, command_id: str, body: Command) -> Outgoing:
    meta = CommandMeta(
        command_id=command_id,
        pool=pool,
        actor="ann",
        roles=(),
        issued_at=datetime.now(UTC),
        correlation_id=command_id,
        traceparent="",
        request_hash="h",
    )
    value = encode(Message(meta, body))
    return Outgoing(topic="", key=pool.encode(), value=value)


async def send(log: Log, topics: Topics, record: Outgoing) -> None:
    """Send until acknowledged; now and then once more, as clients do."""
    record = Outgoing(topic=topics.commands, key=record.key, value=record.value)
    while True:
        with suppress(LogUnavailable):
            await log.append([record])
            return
        await asyncio.sleep(0.2)


async def generate(log: Log, topics: Topics, count: int) -> set[str]:
    """Send `count` commands, one in ten of them twice; return their ids."""
    dice = random.Random(0)
    for pool in POOLS:
        benches = tuple(
            BenchSpec(name=f"b{n}", labels={}, adapter="mock", config="{}") for n in range(3)
        )
        body = ApplyBenches(benches=benches)
        await send(log, topics, command(pool, f"apply-{pool}", body))
    sent = {f"apply-{pool}" for pool in POOLS}
    for number in range(count):
        pool = POOLS[number % len(POOLS)]
        body = (
            RequestReservation(
                reservation_id=f"r{number}", selectors=("",), duration_s=600.0, priority=0
            )
            if number % 2 == 0
            else ReleaseReservation(reservation_id=f"r{max(0, number - 3)}")
        )
        record = command(pool, f"c{number}", body)
        await send(log, topics, record)
        if dice.random() < 0.1:
            await send(log, topics, record)
        sent.add(f"c{number}")
        if number % 20 == 0:
            await asyncio.sleep(0.05)
    return sent


async def read_all(log: Log, topic: str, number: int) -> list[Record]:
    partition = Partition(topic, number)
    end = (await log.ends([partition]))[partition]
    reader = await log.open_reader({partition: 0})
    records: list[Record] = []
    try:
        while await reader.position(partition) < end:
            records += await reader.poll(records_max=5_000, wait_s=1.0)
    finally:
        await reader.close()
    return records


async def journals(log: Log, topics: Topics) -> list[list[EventMessage]]:
    return [
        [decode_event(record.value) for record in await read_all(log, topics.events, number)]
        for number in range(PARTITIONS)
    ]


async def until_decided(log: Log, topics: Topics, sent: set[str]) -> list[list[EventMessage]]:
    """Wait until every command has an outcome; return the journals."""
    end_s = asyncio.get_running_loop().time() + DECIDED_S_MAX
    while True:
        found = await journals(log, topics)
        missing = sent - {message.meta.causation_id for journal in found for message in journal}
        if not missing:
            return found
        assert asyncio.get_running_loop().time() < end_s, f"{len(missing)} commands are lost"
        await asyncio.sleep(1.0)


async def judge(log: Log, topics: Topics, sent: set[str]) -> None:
    for number, journal in enumerate(await until_decided(log, topics, sent)):
        check_journal(journal)
        folded = await recover(log, Partition(topics.events, number))
        assert folded.seq == len(journal)


async def prepare(kafka: str, topics: Topics) -> None:
    await ensure_topics(kafka, specs(topics, partitions=PARTITIONS, min_insync=1), replication=1)


def test_twenty_kills_lose_and_double_nothing(kafka: str, topic_prefix: str) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        async with KafkaLog(kafka, client_id="test") as log:
            generating = asyncio.create_task(generate(log, topics, COMMANDS))
            dice = random.Random(1)
            for _ in range(KILLS):
                with scheduler(kafka, topic_prefix):
                    await asyncio.sleep(dice.uniform(0.8, 2.2))
            sent = await generating
            with scheduler(kafka, topic_prefix):
                await judge(log, topics, sent)

    asyncio.run(scenario())


def test_a_stopped_zombie_changes_nothing_when_it_wakes_up(kafka: str, topic_prefix: str) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        async with KafkaLog(kafka, client_id="test") as log:
            with scheduler(kafka, topic_prefix) as first, scheduler(kafka, topic_prefix) as second:
                generating = asyncio.create_task(generate(log, topics, 1_500))
                await asyncio.sleep(4.0)
                for turn in range(PAUSES):
                    zombie = (first, second)[turn % 2]
                    zombie.signal(signal.SIGSTOP)
                    await asyncio.sleep(7.5)  # Longer than the session: the other takes over.
                    zombie.signal(signal.SIGCONT)
                    await asyncio.sleep(2.0)
                await judge(log, topics, await generating)

    asyncio.run(scenario())


def test_poison_in_each_input_goes_to_the_dead_letters_and_work_goes_on(
    kafka: str, topic_prefix: str
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        poison = [
            Outgoing(topic=topics.commands, key=b"lab-a", value=b"not avro at all"),
            Outgoing(topic=topics.reports, key=b"lab-a", value=b"\x00\x00\x00\x00\x01cut"),
            Outgoing(topic=topics.commands, key=b"lab-a", value=None),
        ]
        async with KafkaLog(kafka, client_id="test") as log:
            with scheduler(kafka, topic_prefix):
                await log.append(poison)
                sent = await generate(log, topics, 20)
                await judge(log, topics, sent)
            letters = [
                decode(record.value)
                for number in range(PARTITIONS)
                for record in await read_all(log, topics.dlq, number)
            ]
        assert all(isinstance(letter, DeadLetter) and letter.error for letter in letters)
        assert sorted(letter.value or b"" for letter in letters) == sorted(
            record.value or b"" for record in poison
        )

    asyncio.run(scenario())
