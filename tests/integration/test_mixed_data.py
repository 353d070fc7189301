"""Data of two clusters or two lives of a log mixed up, on a real Kafka: refused, or built anew."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from structlog.testing import capture_logs

from api.ending import end
from events.commands import ApplyBenches
from events.kafka.admin import cluster_id, ensure_topics
from events.kafka.log import KafkaLog
from events.kafka.mending import make_anew
from events.log import Partition
from events.shared import BenchSpec
from events.topics import Topics, specs
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Clock, Owner
from processors.runtime.recovery import recover
from projections.read_model import ReadModel
from projections.runtime import Projector
from projections.store import Store
from tests.integration.small_lab import utc_now
from tests.on_log import ask

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

WAIT_S = 60.0


async def create(kafka: str, topics: Topics) -> None:
    await ensure_topics(kafka, specs(topics, partitions=1, min_insync=1), replication=1)


async def anew(kafka: str, topics: Topics, name: str) -> None:
    """Delete a topic and create it again, as somebody in a hurry would."""
    [spec] = [each for each in specs(topics, partitions=1, min_insync=1) if each.name == name]
    await make_anew(kafka, spec, replication=1)


def owner(log: KafkaLog, topics: Topics) -> Owner:
    clock = Clock(now=utc_now, monotonic_s=time.monotonic)
    return Owner(log, topics, 0, clock, runtime_metrics(NoOpMeterProvider().get_meter("test")))


async def apply(log: KafkaLog, topics: Topics, *names: str) -> None:
    benches = tuple(BenchSpec(name=n, labels={}, adapter="mock", config="{}") for n in names)
    await ask(log, topics, f"c-{names}", ApplyBenches(benches=benches))


async def decided(log: KafkaLog, topics: Topics, benches: int) -> None:
    """Return once the journal has so many benches."""
    async with asyncio.timeout(WAIT_S):
        while True:
            ledger = await recover(log, Partition(topics.events, 0))
            if sum(len(pool.benches) for pool in ledger.pools.values()) >= benches:
                return
            await asyncio.sleep(0.1)


def test_a_read_model_of_another_cluster_is_refused_by_the_api_and_by_rebuild(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(topic_prefix)
    asyncio.run(create(kafka, topics))
    path = tmp_path / "read.db"
    with Store(path) as store:
        store.belong_to("another-cluster", topics.events)
    where = ["--database", str(path), "--kafka", kafka, "--topic-prefix", topic_prefix]
    more = ["--port", "0", "--tokens", str(tmp_path / "tokens.json")]
    for verb in (["serve", "api", *more], ["projections", "rebuild"]):
        refused = subprocess.run(
            [sys.executable, "-m", "cli.main", *verb, *where],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert refused.returncode == 3, refused.stderr
        assert "built from cluster another-cluster, not from" in refused.stderr
        assert "remove this one" in refused.stderr
    assert path.exists()


def test_a_journal_that_was_made_anew_lost_facts_and_that_is_said(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(topic_prefix)

    async def scenario() -> None:
        await create(kafka, topics)
        with Store(tmp_path / "read.db") as store:
            store.belong_to(await cluster_id(kafka), topics.events)
            async with KafkaLog(kafka, client_id="test") as log:
                own = owner(log, topics)
                task = asyncio.ensure_future(own.run())
                await apply(log, topics, "b1", "b2", "b3")
                await decided(log, topics, 3)
                await end([task])
                await shows(log, topics, store, benches=3)
            for name in (topics.events, topics.commands, topics.reports):
                await anew(kafka, topics, name)
            async with KafkaLog(kafka, client_id="test") as log:
                projector = Projector(log, topics, store)
                task = asyncio.ensure_future(projector.run())
                async with asyncio.timeout(WAIT_S):
                    while "projections rebuild" not in (await projector.health()).detail:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                assert len(await ReadModel(projector).pools()) == 1, "nothing is thrown away"
                await end([task])

    asyncio.run(scenario())


async def shows(log: KafkaLog, topics: Topics, store: Store, *, benches: int) -> None:
    projector = Projector(log, topics, store)
    task = asyncio.ensure_future(projector.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                pools = await ReadModel(projector).pools()
                is_level = (await projector.health()).is_live and await projector.caught_up(WAIT_S)
                if is_level and sum(sum(p.benches_by_state.values()) for p in pools) == benches:
                    return
                await asyncio.sleep(0.1)
    finally:
        await end([task])


def test_inputs_that_were_made_anew_beside_an_old_journal_are_decided_and_that_is_said(
    kafka: str, topic_prefix: str
) -> None:
    topics = Topics(topic_prefix)

    async def scenario() -> None:
        await create(kafka, topics)
        async with KafkaLog(kafka, client_id="test") as log:
            own = owner(log, topics)
            task = asyncio.ensure_future(own.run())
            await apply(log, topics, "b1")
            await apply(log, topics, "b2")
            await decided(log, topics, 2)
            await end([task])
        await anew(kafka, topics, topics.commands)
        async with KafkaLog(kafka, client_id="test") as log:
            await apply(log, topics, "b3")
            with capture_logs() as logs:
                own = owner(log, topics)
                task = asyncio.ensure_future(own.run())
                await decided(log, topics, 3)
                await end([task])
        [said] = [each for each in logs if each["event"] == "partition.inputs_reset"]
        assert (said["log_level"], said["next"]) == ("critical", 0)
        assert "was made anew" in said["reason"]

    asyncio.run(scenario())
