"""Which topics have each append on disk before it is acknowledged, on a real broker."""

import asyncio
from collections.abc import Iterator, Mapping

import pytest

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from events.internal_rules import TRANSACTIONS
from events.kafka.admin import ensure_topics, opened_admin, topic_settings
from events.kafka.durability import keep_facts
from events.kafka.requests import change_topics
from events.topics import FLUSH_KEY, Topics, specs
from tests.integration.test_topics import init
from tests.kafka import embedded_kafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

NEVER = str(2**63 - 1)
TOPICS = Topics("flush")
WANTED = specs(TOPICS, partitions=1, min_insync=1)
FACTS = {spec.name for spec in WANTED} - {TOPICS.logs, TOPICS.snapshots}


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of this file alone: Kafka's own topic of transactions is changed."""
    config = ClusterConfig(data_dir=tmp_path_factory.mktemp("kafka") / "data")
    with embedded_kafka(config) as kafka:
        yield kafka.bootstrap


async def settings(kafka: str, *names: str) -> Mapping[str, Mapping[str, str]]:
    async with opened_admin(kafka, "look") as client:
        return await topic_settings(client, names)


async def on_disk(kafka: str) -> set[str]:
    names = [*(spec.name for spec in WANTED), TRANSACTIONS]
    found = await settings(kafka, *names)
    assert {config[FLUSH_KEY] for config in found.values()} <= {"1", NEVER}
    return {name for name, config in found.items() if config[FLUSH_KEY] == "1"}


def test_facts_go_to_disk_and_back_and_nothing_else_changes(own_kafka: str) -> None:
    async def scenario() -> None:
        await ensure_topics(own_kafka, WANTED, replication=1)
        before = await settings(own_kafka, *(spec.name for spec in WANTED))
        assert await keep_facts(own_kafka, WANTED, "disk") == FACTS | {TRANSACTIONS}
        assert await on_disk(own_kafka) == FACTS | {TRANSACTIONS}
        after = await settings(own_kafka, *(spec.name for spec in WANTED))
        changed = {
            (name, key)
            for name, config in after.items()
            for key, value in config.items()
            if before[name][key] != value
        }
        assert changed == {(name, FLUSH_KEY) for name in FACTS}
        assert await keep_facts(own_kafka, WANTED, "disk") == frozenset(), (
            "a repeat changes nothing"
        )
        # Kafka's own topic serves others too: only who has the broker alone makes it fast again.
        assert await keep_facts(own_kafka, WANTED, "memory") == FACTS
        assert await on_disk(own_kafka) == {TRANSACTIONS}
        assert await keep_facts(own_kafka, WANTED, "memory", is_broker_ours=True) == {TRANSACTIONS}
        assert await on_disk(own_kafka) == set()

    asyncio.run(scenario())


def test_init_says_where_facts_are_and_leaves_copies_alone(own_kafka: str) -> None:
    def asked(*more: str) -> str:
        done = init(own_kafka, "flush", "--partitions", "1", *more)
        assert done.returncode == 0, done.stderr
        return done.stderr

    first = asked()
    assert "acknowledged facts are on the disk of the broker" in first
    assert f"changed for that: {FLUSH_KEY} of {TRANSACTIONS}" in first
    assert "changed for that" not in asked("--durability", "disk")
    assert "a power cut takes" in asked("--durability", "memory")
    assert asyncio.run(on_disk(own_kafka)) == {TRANSACTIONS}


def test_more_copies_than_one_are_left_as_they_are(three_brokers: EmbeddedKafka) -> None:
    kafka = three_brokers.bootstrap

    async def by_hand() -> None:
        async with opened_admin(kafka, "set") as client:
            await change_topics(client, {TOPICS.events: {FLUSH_KEY: "1"}})

    for _ in range(2):
        done = init(kafka, "flush", "--replication", "3")
        assert done.returncode == 0, done.stderr
        assert "acknowledged facts" not in done.stderr
        asyncio.run(by_hand())
    assert asyncio.run(settings(kafka, TOPICS.events))[TOPICS.events][FLUSH_KEY] == "1"
