"""Snapshots and standbys on a real Kafka, with real scheduler processes that are killed."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from cli.local.properties import free_port
from events.codec import decode, decode_event, encode
from events.commands import ApplyBenches
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing, Partition
from events.message import EventMessage
from events.shared import BenchSpec
from events.topics import Topics, specs
from processors.audit.snapshots import stock_of
from processors.runtime.recovery import recover, resume
from processors.runtime.snapshot import fingerprint
from tests import schedulers
from tests.on_log import ask, read_parts
from tests.sim.checkers import check_journal
from tests.sim.snapshots import check_snapshots

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(280)]

WAIT_S = 60.0
EVERY = 40


@dataclass
class Scheduler:
    """One scheduler process."""

    process: subprocess.Popen[bytes]
    port: int

    async def partitions(self) -> dict[int, dict[str, Any]]:
        """Return its live state by partition; nothing while it does not answer."""
        async with httpx.AsyncClient(timeout=10.0) as client:
            with suppress(httpx.HTTPError):
                found = (await client.get(f"http://127.0.0.1:{self.port}/state")).json()
                return {each["partition"]: each for each in found["partitions"]}
        return {}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


@contextmanager
def scheduler(kafka: str, prefix: str) -> Iterator[Scheduler]:
    port = free_port()
    arguments = ["--health-port", str(port), "--snapshot-every", str(EVERY)]
    with schedulers.scheduler(kafka, prefix, *arguments) as process:
        yield Scheduler(process, port)


class Lab:
    """The topics of a test, and a client that sees what becomes of its commands."""

    def __init__(self, log: Log, topics: Topics, partitions: int) -> None:
        self.log, self.topics, self.partitions = log, topics, partitions
        names = (f"lab-{number}" for number in range(100))
        self.pools = {log.partition_for(name.encode(), partitions): name for name in names}
        self.sent: set[str] = set()

    async def ask(self, count: int) -> None:
        """Send commands to every partition, and wait until all are decided."""
        for _ in range(count):
            for pool in self.pools.values():
                name = f"c{len(self.sent)}"
                spec = BenchSpec(
                    name=f"bench-{name}", labels={"n": name}, adapter="mock", config="{}"
                )
                body = ApplyBenches(benches=(spec,))
                await ask(self.log, self.topics, name, body, pool=pool)
                self.sent.add(name)
        await self.decided()

    async def decided(self) -> None:
        end_s = asyncio.get_running_loop().time() + WAIT_S
        while lost := await self._open():
            assert asyncio.get_running_loop().time() < end_s, f"never decided: {sorted(lost)}"
            await asyncio.sleep(0.2)

    async def _open(self) -> set[str]:
        journals = [await self.journal(number) for number in range(self.partitions)]
        return self.sent - {each.meta.causation_id for journal in journals for each in journal}

    async def journal(self, number: int) -> list[EventMessage]:
        records = (await read_parts(self.log, self.topics.events))[number]
        return [decode_event(record.value) for record in records]

    async def state_of(self, *ones: Scheduler) -> dict[int, dict[str, Any]]:
        """Return the live state of all partitions, once each has an owner."""
        end_s = asyncio.get_running_loop().time() + WAIT_S
        while asyncio.get_running_loop().time() < end_s:
            found: dict[int, dict[str, Any]] = {}
            for one in ones:
                found |= await one.partitions()
            if len(found) == self.partitions:
                return found
            await asyncio.sleep(0.2)
        raise AssertionError("there are partitions without an owner")

    async def judge(self, *ones: Scheduler) -> None:
        """The journal is whole; live state, fold, and each snapshot with its tail are one."""
        live = await self.state_of(*ones)
        for number in range(self.partitions):
            stock = await stock_of(self.log, self.topics, number)
            journal = await self.journal(number)
            check_journal(journal)
            check_snapshots(stock, number, journal)
            folded = await recover(self.log, Partition(self.topics.events, number))
            assert (await resume(self.log, self.topics, number)).ledger == folded
            assert live[number]["seq"] == folded.seq == len(journal)
            assert live[number]["fingerprint"] == fingerprint(folded)


def play(kafka: str, prefix: str, scene: Any, *, partitions: int = 1) -> None:
    async def run() -> None:
        topics = Topics(prefix)
        wanted = specs(topics, partitions=partitions, min_insync=1)
        await ensure_topics(kafka, wanted, replication=1)
        async with KafkaLog(kafka, client_id="test") as log:
            await scene(Lab(log, topics, partitions))

    asyncio.run(run())


def test_a_killed_scheduler_goes_on_from_its_snapshot(kafka: str, topic_prefix: str) -> None:
    async def scene(lab: Lab) -> None:
        with scheduler(kafka, topic_prefix) as first:
            await lab.ask(70)
            assert (await lab.state_of(first))[0]["snapshot"] == 0
            first.kill()
        with scheduler(kafka, topic_prefix) as second:
            await lab.ask(5)
            began_at = (await lab.state_of(second))[0]["snapshot"]
            assert 0 < began_at <= len(await lab.journal(0))
            await lab.judge(second)

    play(kafka, topic_prefix, scene)


def test_damaged_and_too_new_snapshots_are_passed_over(kafka: str, topic_prefix: str) -> None:
    async def scene(lab: Lab) -> None:
        with scheduler(kafka, topic_prefix) as first:
            await lab.ask(70)
            first.kill()
        honest = (await resume(lab.log, lab.topics, 0)).from_seq
        assert honest
        await spoil(lab)
        found = await resume(lab.log, lab.topics, 0)
        assert found.from_seq == honest
        assert sorted(found.skipped) == ["damaged", "format", "undecodable"]
        with scheduler(kafka, topic_prefix) as second:
            await lab.ask(2)
            assert (await lab.state_of(second))[0]["snapshot"] == honest
            await lab.ask(70)
            await lab.judge(second)

    play(kafka, topic_prefix, scene)


async def spoil(lab: Lab) -> None:
    """Write snapshots of later seqs that are damaged, or of another version."""
    records = (await read_parts(lab.log, lab.topics.snapshots))[0]
    newest = [decode(record.value) for record in records[-2:]]
    forged: list[bytes] = [b"\x00\x7f\xff\xff\xff of a later version"]
    for each in newest:
        forged += [
            encode(replace(each, seq=each.seq + 1_000, state=each.state[:-4] + b"ruin")),
            encode(replace(each, seq=each.seq + 2_000, format="2-of-a-later-version")),
        ]
    await lab.log.append(
        [
            Outgoing(topic=lab.topics.snapshots, key=b"forged-%d" % n, value=value, partition=0)
            for n, value in enumerate(forged)
        ]
    )


def test_two_schedulers_take_over_from_each_other(kafka: str, topic_prefix: str) -> None:
    async def scene(lab: Lab) -> None:
        with scheduler(kafka, topic_prefix) as one, scheduler(kafka, topic_prefix) as other:
            await lab.ask(30)
            await lab.judge(one, other)
            one.kill()
            await lab.ask(30)
            await lab.judge(other)
            with scheduler(kafka, topic_prefix) as third:
                await lab.ask(10)
                other.process.send_signal(signal.SIGTERM)
                await lab.ask(10)
                assert other.process.wait(30) == 0
                await lab.judge(third)

    play(kafka, topic_prefix, scene, partitions=4)


def test_a_scheduler_works_where_there_is_no_topic_for_snapshots(
    kafka: str, topic_prefix: str
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        wanted = [
            spec
            for spec in specs(topics, partitions=1, min_insync=1)
            if spec.name != topics.snapshots
        ]
        await ensure_topics(kafka, wanted, replication=1)
        async with KafkaLog(kafka, client_id="test") as log:
            lab = Lab(log, topics, 1)
            with scheduler(kafka, topic_prefix) as first:
                await lab.ask(60)
                first.kill()
            with scheduler(kafka, topic_prefix) as second:
                await lab.ask(2)
                state = (await lab.state_of(second))[0]
                assert (state["seq"], state["snapshot"]) == (len(await lab.journal(0)), 0)

    asyncio.run(scenario())
