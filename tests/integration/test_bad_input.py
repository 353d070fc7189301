"""Bad input on a real Kafka: refused or set aside with the reason, counted; nothing stops."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from api.ending import end
from events.codec import decode, encode
from events.commands import ApplyBenches, ReplayDeadLetter, SubmitExecution
from events.dlq import DeadLetter
from events.errors import JournalBroken
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.letters import REPLAYED_FROM, VALUE_BYTES_MAX
from events.log import Outgoing, Partition, Record
from events.message import Message
from events.reports import AttemptEnded, Report, StepStarted, WorkerHeartbeat, WorkerStarted
from events.shared import BenchSpec, ReportMeta, RunSpec, Totals
from events.topics import OUTPUT_BYTES_MAX, Topics, specs
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Clock, Owner
from processors.runtime.recovery import recover
from processors.scheduler.state import Ledger
from projections.runtime import Projector
from projections.store import Store
from tests.integration.small_lab import utc_now
from tests.on_log import command_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

WAIT_S = 60.0
POOL = "rig"
"""It belongs into the first of two partitions."""
RUN = RunSpec(command=("true",), env={}, timeout_s=60.0, junit=(), artifacts=())
TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)


class Bad:
    """One owner of the one partition, and who speaks badly to it."""

    def __init__(self, log: KafkaLog, topics: Topics) -> None:
        self.log = log
        self.topics = topics
        self.reader = InMemoryMetricReader()
        meter = MeterProvider(metric_readers=[self.reader]).get_meter("test")
        clock = Clock(now=utc_now, monotonic_s=time.monotonic)
        self.owners = [
            Owner(log, topics, number, clock, runtime_metrics(meter)) for number in range(2)
        ]
        self.count = 0

    async def ask(
        self, body: Any, command_id: str, *, issued_at: datetime | None = None, **headers: bytes
    ) -> None:
        value = command_of(command_id, body, pool=POOL, issued_at=issued_at)
        await self.put(self.topics.commands, value, **headers)

    async def say(self, body: Report, *, worker: str = "w1", epoch: int = 1) -> None:
        self.count += 1
        meta = ReportMeta(
            report_id=f"r{self.count}",
            pool=POOL,
            worker=worker,
            epoch=epoch,
            sent_at=utc_now(),
            correlation_id="",
            traceparent="",
        )
        await self.put(self.topics.reports, encode(Message(meta, body)))

    async def put(self, topic: str, value: bytes | None, **headers: bytes) -> None:
        record = Outgoing(topic=topic, key=POOL.encode(), value=value, headers=headers, partition=0)
        await self.log.append([record])

    async def records(self, topic: str, number: int = 0) -> list[Record]:
        partition = Partition(topic, number)
        end_ = (await self.log.ends([partition]))[partition]
        reader = await self.log.open_reader({partition: 0})
        found: list[Record] = []
        try:
            while await reader.position(partition) < end_:
                found += await reader.poll(records_max=500, wait_s=0.5)
        finally:
            await reader.close()
        return found

    async def letters(self) -> list[DeadLetter]:
        return [
            decode(record.value)
            for number in range(2)
            for record in await self.records(self.topics.dlq, number)
        ]

    async def until(self, is_so: Callable[[Ledger], bool]) -> Ledger:
        """Return the state on the log once it is so."""
        async with asyncio.timeout(WAIT_S):
            while True:
                ledger = await recover(self.log, Partition(self.topics.events, 0))
                if is_so(ledger):
                    return ledger
                await asyncio.sleep(0.1)

    def counted(self, name: str, key: str) -> Counter[str]:
        found: Counter[str] = Counter()
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            attributes = point.attributes or {}
                            found[str(attributes[key])] += int(point.value)  # type: ignore[union-attr]
        return found


@pytest.fixture
def play(kafka: str, topic_prefix: str) -> Callable[[Callable[[Bad], Awaitable[None]]], None]:
    def run(scene: Callable[[Bad], Awaitable[None]]) -> None:
        async def whole() -> None:
            topics = Topics(topic_prefix)
            await ensure_topics(kafka, specs(topics, partitions=2, min_insync=1), replication=1)
            async with KafkaLog(kafka, client_id="bad") as log:
                bad = Bad(log, topics)
                tasks = [asyncio.ensure_future(owner.run()) for owner in bad.owners]
                try:
                    await scene(bad)
                finally:
                    await end(tasks)

        asyncio.run(whole())

    return run


def bench(name: str) -> ApplyBenches:
    spec = BenchSpec(name=name, labels={}, adapter="mock", config="{}")
    return ApplyBenches(benches=(spec,))


def submit(name: str) -> SubmitExecution:
    return SubmitExecution(execution_id=name, selector="", priority=0, retries=0, run=RUN)


def step(name: str, *, execution_id: str = "e1", fence: int = 1, attempt: int = 1) -> StepStarted:
    return StepStarted(execution_id=execution_id, attempt=attempt, fence=fence, step=name)


def over(*, execution_id: str = "e1", fence: int = 1) -> AttemptEnded:
    return AttemptEnded(
        execution_id=execution_id,
        attempt=1,
        fence=fence,
        verdict="passed",
        code="passed",
        reason="",
        totals=TOTALS,
        artifacts=(),
        is_retriable=False,
        teardown_error="",
    )


def test_bad_reports_are_counted_by_reason_and_the_attempt_goes_on(play: Any) -> None:
    async def scene(bad: Bad) -> None:
        await bad.ask(bench("b1"), "c1")
        await bad.say(WorkerStarted(adapters=("mock",), benches=(), slots=1, version="1"))
        await bad.ask(submit("e1"), "c2")
        await bad.until(lambda now: bool(now.pools) and bool(now.pools[POOL].executions))
        await bad.say(step("run"))
        before = (await bad.until(lambda now: now.pools[POOL].executions["e1"].step == "run")).seq
        await bad.say(step("run", execution_id="nobody"))
        await bad.say(over(fence=7))
        await bad.say(over(), epoch=0)
        await bad.say(over(), worker="w9")
        await bad.say(step("provision"))
        await bad.say(step("run"))
        await bad.say(WorkerHeartbeat(running=()), epoch=0)
        await bad.ask(submit("e1"), "c2")
        await bad.put(bad.topics.reports, b"\x00\x00\x00\x00\x02cut")
        whole = (await bad.records(bad.topics.reports))[-2].value or b""
        await bad.put(bad.topics.reports, whole[: len(whole) // 2])
        await bad.say(over())
        after = await bad.until(lambda now: not now.pools[POOL].executions)
        kinds = [decode(r.value).body for r in await bad.records(bad.topics.events)][before:]
        said = [type(body).__name__ for body in kinds]
        assert said.count("InputSetAside") == 2
        assert said.count("ExecutionFinished") == 1
        assert after.pools[POOL].ended["e1"].kind == "execution"
        assert bad.counted("teo_scheduler_inputs_ignored", "reason") == Counter(
            unknown_execution=1, other_fence=1, other_epoch=2, unknown_worker=1,
            step_backwards=1, repeat=2,
        )  # fmt: skip
        assert bad.counted("teo_scheduler_set_aside", "reason") == Counter(undecodable=2)
        assert len(await bad.letters()) == 2

    play(scene)


def test_records_that_a_topic_takes_and_nobody_can_read_stop_nothing(play: Any, kafka: str) -> None:
    """The broker takes 1 MB unless a topic says otherwise, and knows only compressed lengths."""

    async def scene(bad: Bad) -> None:
        near, long = bytes(1_048_000), b"ab" * 10_000_000
        await bad.put(bad.topics.commands, near)
        async with foreign_producer(kafka) as foreign:
            await foreign.send_and_wait(bad.topics.commands, long, POOL.encode(), partition=0)
        await bad.ask(bench("b1"), "c1")
        now = await bad.until(lambda now: bool(now.pools))
        assert set(now.pools[POOL].benches) == {"b1"}
        kinds = [decode(r.value).body for r in await bad.records(bad.topics.events)]
        said = [type(body).__name__ for body in kinds]
        assert said == ["TopicsBound", "InputSetAside", "InputSetAside", "BenchRegistered"]
        first, second = sorted(await bad.letters(), key=lambda letter: letter.source_offset)
        assert (first.value, first.whole_bytes) == (near, None)
        assert (second.whole_bytes, second.value) == (len(long), long[:VALUE_BYTES_MAX])
        assert second.whole_sha256 == sha256(long).hexdigest()

    play(scene)


def test_a_decision_that_no_topic_takes_is_set_aside_alone(play: Any, kafka: str) -> None:
    async def scene(bad: Bad) -> None:
        big = ReplayDeadLetter(letter_id="0-0", reason="r" * (OUTPUT_BYTES_MAX + 1))
        async with foreign_producer(kafka) as foreign:
            batch = [command_of("c1", bench("b1"), pool=POOL), command_of("c2", big, pool=POOL)]
            sent = [
                await foreign.send(bad.topics.commands, value, POOL.encode(), partition=0)
                for value in (*batch, command_of("c3", bench("b3"), pool=POOL))
            ]
            await asyncio.gather(*sent)
        await bad.until(lambda now: bool(now.pools) and "b3" in now.pools[POOL].benches)
        (letter,) = await bad.letters()
        assert letter.source_offset == 1
        assert letter.error.startswith("RecordTooBig: commit ")
        assert f"goes to {bad.topics.events}" in letter.error
        assert bad.counted("teo_scheduler_set_aside", "reason") == Counter(record_too_big=1)

    play(scene)


def foreign_producer(kafka: str) -> AIOKafkaProducer:
    """Return a client that compresses, and sends whatever a topic takes of that."""
    return AIOKafkaProducer(
        bootstrap_servers=kafka, compression_type="lz4", max_request_size=64 * 1024 * 1024
    )


def test_a_command_older_than_repeats_are_known_is_set_aside_unless_it_is_a_replay(
    play: Any,
) -> None:
    async def scene(bad: Bad) -> None:
        old = utc_now() - timedelta(hours=25)
        await bad.ask(bench("b1"), "c-old", issued_at=old)
        await bad.ask(bench("b2"), "c-new")
        now = await bad.until(lambda now: bool(now.pools) and bool(now.pools[POOL].benches))
        assert set(now.pools[POOL].benches) == {"b2"}
        (letter,) = await bad.letters()
        assert letter.error.startswith("TooLate: command c-old was asked at ")
        assert bad.counted("teo_scheduler_set_aside", "reason") == Counter(too_late=1)
        # An operator looked, and puts it back: the same bytes, and whence.
        headers = {REPLAYED_FROM: b"0-0"}
        await bad.ask(bench("b1"), "c-old", issued_at=old, **headers)
        await bad.until(lambda now: set(now.pools[POOL].benches) == {"b1", "b2"})

    play(scene)


def test_an_unknown_event_stops_the_writer_of_its_partition_only_and_is_skipped_by_readers(
    play: Any, tmp_path: Path
) -> None:
    async def scene(bad: Bad) -> None:
        await bad.ask(bench("b1"), "c1")
        await bad.until(lambda now: bool(now.pools))
        unknown = b"\x00" + (9_999).to_bytes(4, "big") + b"of a later version"
        await bad.put(bad.topics.events, unknown)
        with pytest.raises(JournalBroken, match="9999 is not published here; a writer must know"):
            await recover(bad.log, Partition(bad.topics.events, 0))
        # Whoever takes the partition over does not decide on half a history, and says so.
        meter = MeterProvider().get_meter("other")
        clock = Clock(now=utc_now, monotonic_s=time.monotonic)
        next_owner = Owner(bad.log, bad.topics, 0, clock, runtime_metrics(meter))
        with capture_logs() as logs:
            task = asyncio.ensure_future(next_owner.run())
            async with asyncio.timeout(WAIT_S):
                while not any("journal_broken" in each["event"] for each in logs):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await end([task])
        assert next_owner.ledger is None
        # The other partition goes on, and a reader shows what it can.
        assert bad.owners[1].ledger is not None
        with Store(tmp_path / "read.db") as store:
            projector = Projector(bad.log, bad.topics, store)
            reading = asyncio.ensure_future(projector.run())
            async with asyncio.timeout(WAIT_S):
                while not store.mark(0).skipped:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            health = await projector.health()
            assert (health.is_live, health.detail) == (
                True,
                "1 records of the journal could not be read",
            )
            await end([reading])

    play(scene)
