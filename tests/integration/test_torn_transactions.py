"""Delayed, repeated and lost requests of transactions, on a real broker: no decision is torn.

Kafka's first transaction protocol takes a late EndTxn for one of the transaction that is open now
(KAFKA-17754). The controls show that this broker can be made to do so by a client that repeats
its requests silently; the tests show that ours cannot be torn by the same faults.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer.sender import Sender
from opentelemetry import metrics

from events.codec import decode_event
from events.commands import ApplyBenches, Command, ReleaseReservation, RequestReservation
from events.errors import JournalBroken, LogUnavailable
from events.kafka import writer as kafka_writer
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing, Partition
from events.message import EventMessage
from events.shared import BenchSpec
from events.topics import Topics, specs
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Clock, Owner
from processors.runtime.recovery import recover
from tests.chaos.cluster import proxied_kafka
from tests.chaos.proxy import ADD_PARTITIONS_TO_TXN, END_TXN, PRODUCE, Action, Proxy, Rule
from tests.on_log import asked, read_parts
from tests.sim.checkers import Violated, check_journal

pytestmark = [pytest.mark.broker, pytest.mark.timeout(420)]

TOPICS = Topics("torn")
PARTITIONS = 12
FAULTS = 400
STORM_S_MAX = 240.0
AIMED_FAULTS = 20
AIMED_S_MAX = 240.0
DECIDED_S_MAX = 60.0
COMMIT_S = 1.0
"""What a commit may take here; in production ten times as long."""
BENCHES = 40
BIG_EVERY = 1
ASK_S = 0.2
TXN = frozenset({ADD_PARTITIONS_TO_TXN, END_TXN, PRODUCE})
BAD = (
    (frozenset({END_TXN}), Action.LATE_REQUEST, 0.20, (0.1, 0.4)),
    (frozenset({PRODUCE}), Action.DELAY_REQUEST, 0.20, (0.0, 0.1)),
    (TXN, Action.DELAY_REQUEST, 0.10, (0.0, 0.1)),
    (TXN, Action.DELAY_ANSWER, 0.08, (0.0, 0.1)),
    (TXN, Action.LATE_REQUEST, 0.05, (0.0, 0.3)),
    (TXN, Action.CUT_REQUEST, 0.03, (0.0, 0.0)),
    (TXN, Action.CUT_ANSWER, 0.03, (0.0, 0.0)),
    (TXN, Action.DROP_REQUEST, 0.003, (0.0, 0.0)),
    (TXN, Action.DROP_ANSWER, 0.003, (0.0, 0.0)),
    (TXN, Action.DELAY_REQUEST, 0.003, (0.8, 1.5)),  # Longer than the client waits.
)
"""Odds of each fault for each request of a transaction, and how long it delays."""
AIMED = (
    (frozenset({END_TXN}), Action.LATE_REQUEST, 0.5, (0.1, 0.8)),
    (frozenset({PRODUCE}), Action.DELAY_REQUEST, 1.0, (0.2, 0.2)),
)
"""A late EndTxn comes while the next decision is written, between its two Produce requests."""
AIMED_COMMIT_S = 5.0
Bad = Sequence[tuple[frozenset[int], Action, float, tuple[float, float]]]


@pytest.fixture(autouse=True)
def quiet_client() -> Iterator[None]:
    """The client logs a stack for each of a thousand faults."""
    client = logging.getLogger("aiokafka")
    level = client.level
    client.setLevel(logging.CRITICAL)
    yield
    client.setLevel(level)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[tuple[str, Proxy]]:
    async with proxied_kafka(folder, nodes=1, dice=random.Random(1)) as (kafka, proxy):
        topics = specs(TOPICS, partitions=PARTITIONS, min_insync=1)
        await ensure_topics(kafka.bootstrap, topics, replication=1)
        yield kafka.bootstrap, proxy


async def values(log: Log, number: int) -> list[bytes | None]:
    return [record.value for record in (await read_parts(log, TOPICS.events))[number]]


def late_end(delay_s: float) -> Rule:
    """The network breaks a connection, and delivers the EndTxn on it long after."""
    return Rule(
        action=Action.LATE_REQUEST,
        apis=frozenset({END_TXN}),
        delay_s=(delay_s, delay_s),
        client="writer",
        left=1,
    )


def test_control_a_late_end_commits_half_of_what_the_client_then_aborts(tmp_path: Path) -> None:
    """aiokafka's own sender repeats EndTxn silently: transaction 2 is ended by 1's first EndTxn."""

    async def scenario() -> None:
        async with world(tmp_path / "kafka") as (bootstrap, proxy):
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap, client_id="writer", transactional_id="plain"
            )
            await producer.start()
            proxy.rules.append(late_end(1.0))
            await producer.begin_transaction()
            await producer.send_and_wait(TOPICS.events, b"one", partition=0)
            await producer.commit_transaction()
            assert proxy.counts[Action.LATE_REQUEST, "EndTxn"] == 1
            await producer.begin_transaction()
            await producer.send_and_wait(TOPICS.events, b"two, first half", partition=0)
            await asyncio.sleep(1.5)  # Until the late EndTxn has come.
            await producer.send_and_wait(TOPICS.events, b"two, second half", partition=1)
            await producer.abort_transaction()
            await producer.stop()
            async with KafkaLog(bootstrap, client_id="test") as log:
                assert await values(log, 0) == [b"one", b"two, first half"]
                assert await values(log, 1) == []

    asyncio.run(scenario())


def test_a_late_end_cannot_reach_a_later_transaction_of_our_writer(tmp_path: Path) -> None:
    """The writer dies of the doubt; its successor's epoch makes the late EndTxn void."""

    async def scenario() -> None:
        async with (
            world(tmp_path / "kafka") as (bootstrap, proxy),
            KafkaLog(bootstrap, client_id="writer", commit_s=5.0) as log,
        ):
            proxy.rules.append(late_end(1.0))
            writer = await log.open_writer("ours")
            with pytest.raises(LogUnavailable):
                await writer.commit([_event(b"one", 0)])
            with pytest.raises(LogUnavailable, match="dead"):
                await writer.commit([_event(b"never", 0)])
            await writer.close()
            assert proxy.counts[Action.LATE_REQUEST, "EndTxn"] == 1
            writer = await log.open_writer("ours")
            # Its own EndTxn waits, so that the late one comes in the middle of this transaction.
            proxy.rules.append(
                Rule(
                    action=Action.DELAY_REQUEST,
                    apis=frozenset({END_TXN}),
                    delay_s=(2.0, 2.0),
                    client="writer",
                    left=1,
                )
            )
            await writer.commit([_event(b"two", 0), _event(b"two", 1)])
            await writer.close()
            first = await values(log, 0)
            assert first in ([b"two"], [b"one", b"two"]), "one is whole, or is not there"
            assert await values(log, 1) == [b"two"]

    asyncio.run(scenario())


def _event(value: bytes, partition: int) -> Outgoing:
    return Outgoing(topic=TOPICS.events, key=None, value=value, partition=partition)


class Storm:
    """Owners of all partitions under a storm of faults, and a client that asks them all along."""

    def __init__(
        self, bootstrap: str, proxy: Proxy, bad: Bad = BAD, commit_s: float = COMMIT_S
    ) -> None:
        self._bootstrap = bootstrap
        self.proxy = proxy
        self._bad = bad
        self._commit_s = commit_s
        self.acknowledged: set[str] = set()

    async def blow(
        self, is_enough: Callable[[], Awaitable[bool]], limit_s: float, *, settle: bool = True
    ) -> None:
        """Keep the storm up until it is enough; then let everything settle."""
        async with KafkaLog(self._bootstrap, client_id="client") as log:
            owners = asyncio.gather(*(self._own(number) for number in range(PARTITIONS)))
            asking = asyncio.create_task(self._ask(log))
            try:
                self.proxy.rules += [
                    Rule(action=action, apis=apis, odds=odds, delay_s=delay_s, client="owner")
                    for apis, action, odds, delay_s in self._bad
                ]
                end_s = time.monotonic() + limit_s
                while not await is_enough():
                    await asyncio.sleep(1.0)
                    if asking.done():
                        await asking
                    if time.monotonic() > end_s:
                        break
                self.proxy.clear()
                asking.cancel()
                if settle:
                    await self._settle(log)
            finally:
                asking.cancel()
                owners.cancel()
                await asyncio.gather(asking, owners, return_exceptions=True)

    async def _own(self, number: int) -> None:
        clock = Clock(now=lambda: datetime.now(UTC), monotonic_s=time.monotonic)
        meter = runtime_metrics(metrics.get_meter("test"))
        async with KafkaLog(self._bootstrap, client_id="owner", commit_s=self._commit_s) as log:
            await Owner(log, TOPICS, number, clock, meter).run()

    async def _ask(self, log: Log) -> None:
        pools = _pools(log)
        number = 0
        while True:
            for pool in pools:
                if number % BIG_EVERY == 0:
                    await self._send(log, pool, f"{pool}-apply-{number}", _benches(number))
                asked = RequestReservation(
                    reservation_id=f"{pool}-{number}", selectors=("",), duration_s=600.0, priority=0
                )
                freed = ReleaseReservation(reservation_id=f"{pool}-{max(0, number - 3)}")
                for body in (asked, freed):
                    name = f"{pool}-{type(body).__name__}-{number}"
                    await self._send(log, pool, name, body)
            number += 1
            await asyncio.sleep(ASK_S)

    async def _send(self, log: Log, pool: str, command_id: str, body: Command) -> None:
        record = asked(TOPICS, command_id, body, pool=pool)
        while command_id not in self.acknowledged:
            with suppress(LogUnavailable):
                await log.append([record])
                self.acknowledged.add(command_id)

    async def _settle(self, log: Log) -> None:
        end_s = time.monotonic() + DECIDED_S_MAX
        while time.monotonic() < end_s:
            decided = {
                each.meta.causation_id for journal in await journals(log) for each in journal
            }
            if self.acknowledged <= decided:
                return
            await asyncio.sleep(0.5)


def _benches(number: int) -> ApplyBenches:
    """Return a command whose decision is too big for one Produce request: it can be torn."""
    config = json.dumps({"revision": number, "notes": "x" * 400})
    return ApplyBenches(
        benches=tuple(
            BenchSpec(name=f"b{n}", labels={}, adapter="mock", config=config)
            for n in range(BENCHES)
        )
    )


def _pools(log: Log) -> list[str]:
    """Return a pool for each partition."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        name = f"lab-{number}"
        found.setdefault(log.partition_for(name.encode(), PARTITIONS), name)
        number += 1
    return [found[number] for number in sorted(found)]


async def journals(log: Log) -> list[list[EventMessage]]:
    return [
        [decode_event(record.value) for record in records]
        for records in await read_parts(log, TOPICS.events)
    ]


def outcomes(found: Sequence[Sequence[EventMessage]]) -> list[str]:
    """Return the command of each decision that a command led to."""
    return [
        each.meta.causation_id
        for journal in found
        for each in journal
        if each.meta.request_hash and each.meta.index == 0
    ]


async def judge(bootstrap: str, storm: Storm) -> None:
    """Every journal is whole, and each command that was acknowledged has one outcome."""
    async with KafkaLog(bootstrap, client_id="test") as log:
        found = await journals(log)
        for number, journal in enumerate(found):
            check_journal(journal)
            ledger = await recover(log, Partition(TOPICS.events, number))
            assert ledger.seq == len(journal)
    decided = outcomes(found)
    assert len(decided) == len(set(decided)), "one outcome each"
    assert not storm.acknowledged - set(decided), "none is lost"
    applied = sum(each.meta.index == BENCHES - 1 for journal in found for each in journal)
    assert applied >= len(found), "decisions that could be torn were made all along"
    print(f"{len(decided)} commands decided, {sum(map(len, found))} events")


def test_hundreds_of_faults_tear_nothing_and_lose_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path / "kafka") as (bootstrap, proxy):

            async def is_enough() -> bool:
                return proxy.counts.total() >= FAULTS

            storm = Storm(bootstrap, proxy)
            await storm.blow(is_enough, STORM_S_MAX)
            counts = {
                f"{a.value} of {api}": n
                for (a, api), n in sorted(
                    proxy.counts.items(), key=lambda item: (item[0][1], item[0][0].value)
                )
            }
            print(f"\n{proxy.counts.total()} faults: {counts}")
            assert proxy.counts.total() >= FAULTS
            await judge(bootstrap, storm)

    asyncio.run(scenario())


def test_late_ends_that_are_aimed_at_the_next_decision_tear_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path / "kafka") as (bootstrap, proxy):

            async def is_enough() -> bool:
                return proxy.counts[Action.LATE_REQUEST, "EndTxn"] >= AIMED_FAULTS

            storm = Storm(bootstrap, proxy, AIMED, AIMED_COMMIT_S)
            await storm.blow(is_enough, AIMED_S_MAX)
            assert await is_enough()
            await judge(bootstrap, storm)

    asyncio.run(scenario())


def test_control_the_same_late_ends_tear_the_journal_of_a_client_that_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With aiokafka's own sender the same owners break the journal, and the checkers say so."""
    monkeypatch.setattr(kafka_writer, "StrictSender", Sender)
    # Nor does the writer look where its records stand: that alone sees most tears coming.
    monkeypatch.setattr(kafka_writer.KafkaWriter, "expect", lambda *_: None)

    async def scenario() -> None:
        async with (
            world(tmp_path / "kafka") as (bootstrap, proxy),
            KafkaLog(bootstrap, client_id="test") as log,
        ):

            async def is_torn() -> bool:
                for number, journal in enumerate(await journals(log)):
                    try:
                        check_journal(journal)
                    except Violated as violated:
                        print(f"\nafter {proxy.counts.total()} faults: {violated!s:.200}")
                        with pytest.raises(JournalBroken):
                            await recover(log, Partition(TOPICS.events, number))
                        return True
                return False

            storm = Storm(bootstrap, proxy, AIMED, AIMED_COMMIT_S)
            await storm.blow(is_torn, AIMED_S_MAX, settle=False)
            assert await is_torn(), f"no tear in {proxy.counts.total()} faults"

    asyncio.run(scenario())
