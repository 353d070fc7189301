"""Real scheduler processes on a real Kafka, killed and stopped under load; the log is the judge."""

import asyncio
import random
import signal

import pytest

from events.codec import decode, decode_event
from events.commands import ApplyBenches, ReleaseReservation, RequestReservation
from events.dlq import DeadLetter
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing, Partition
from events.message import EventMessage
from events.shared import BenchSpec
from events.topics import Topics, specs
from processors.runtime.recovery import recover
from tests.on_log import append, ask, asked, read_all, read_parts
from tests.schedulers import scheduler
from tests.sim.checkers import check_journal

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(280)]

PARTITIONS = 2
POOLS = ("lab-a", "lab-b", "lab-c")
COMMANDS = 5_000
KILLS = 20
PAUSES = 3
DECIDED_S_MAX = 90.0


async def generate(log: Log, topics: Topics, count: int) -> set[str]:
    """Send `count` commands, one in ten of them twice; return their ids."""
    dice = random.Random(0)
    for pool in POOLS:
        benches = tuple(
            BenchSpec(name=f"b{n}", labels={}, adapter="mock", config="{}") for n in range(3)
        )
        body = ApplyBenches(benches=benches)
        await ask(log, topics, f"apply-{pool}", body, pool=pool)
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
        record = asked(topics, f"c{number}", body, pool=pool)
        await append(log, [record])
        if dice.random() < 0.1:
            await append(log, [record])
        sent.add(f"c{number}")
        if number % 20 == 0:
            await asyncio.sleep(0.05)
    return sent


async def journals(log: Log, topics: Topics) -> list[list[EventMessage]]:
    return [
        [decode_event(record.value) for record in records]
        for records in await read_parts(log, topics.events)
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
                    zombie.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(7.5)  # Longer than the session: the other takes over.
                    zombie.send_signal(signal.SIGCONT)
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
            letters = [decode(record.value) for record in await read_all(log, topics.dlq)]
        assert all(isinstance(letter, DeadLetter) and letter.error for letter in letters)
        assert sorted(letter.value or b"" for letter in letters) == sorted(
            record.value or b"" for record in poison
        )

    asyncio.run(scenario())
