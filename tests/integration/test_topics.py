"""`teo init` and the roles against topics that are right, missing or dangerous, on real brokers."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cli.local.cluster import EmbeddedKafka
from events.errors import TopicRefused
from events.internal_rules import INTERNALS
from events.kafka.admin import (
    _broker_settings,
    _internal_faults,
    check_topics,
    cluster_id,
    ensure_topics,
    opened_admin,
)
from events.topics import Topics, specs

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

PARTITIONS = 2
ROLE_S_MAX = 60.0


def teo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=ROLE_S_MAX,
        check=False,
    )


def init(kafka: str, prefix: str, *more: str) -> "subprocess.CompletedProcess[str]":
    where = ["--kafka", kafka, "--topic-prefix", prefix, "--partitions", str(PARTITIONS)]
    return teo("init", *where, *more)


async def alter(kafka: str, topic: str, **config: str) -> None:
    """Change a topic as somebody with the Kafka tools would: all else is as `teo init` made it."""
    every = specs(Topics(topic.rpartition(".")[0]), min_insync=1)
    (made,) = (spec for spec in every if spec.name == topic)
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        changed = {key.replace("_", "."): value for key, value in config.items()}
        given = {**made.config, **changed}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=given)
        await client.alter_configs([resource])
    finally:
        await client.close()


async def create(kafka: str, topic: str, partitions: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        answer = await client.create_topics(
            [NewTopic(name=topic, num_partitions=partitions, replication_factor=1)]
        )
        assert [code for _, code, *_ in answer.topic_errors] == [0]
    finally:
        await client.close()


def test_init_creates_then_checks_and_changes_nothing(kafka: str, topic_prefix: str) -> None:
    first = init(kafka, topic_prefix)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("created, 2 partitions") == 8
    again = init(kafka, topic_prefix)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is there and safe") == 8


def test_dangerous_topics_are_refused_by_init_and_by_each_role(
    kafka: str, topic_prefix: str
) -> None:
    topics = Topics(topic_prefix)
    assert init(kafka, topic_prefix).returncode == 0
    asyncio.run(alter(kafka, topics.events, retention_ms="604800000"))
    asyncio.run(alter(kafka, topics.reports, message_timestamp_type="CreateTime"))
    asyncio.run(alter(kafka, topics.dlq, max_message_bytes="1048588"))
    where = ["--kafka", kafka, "--topic-prefix", topic_prefix]
    for command in (
        ["init", *where, "--partitions", str(PARTITIONS)],
        ["serve", "scheduler", *where],
        ["serve", "worker", "--all-pools", "--id", "w", *where],
        ["serve", "api", "--port", "0", *where],
    ):
        refused = teo(*command)
        assert refused.returncode == 3, (command, refused.stdout, refused.stderr)
        assert f"topic {topics.events}: it has retention.ms=604800000" in refused.stderr
        assert f"--mend` sets retention.ms=-1 of {topics.events}" in refused.stderr
        assert f"topic {topics.reports}: it has message.timestamp.type" in refused.stderr
        assert f"topic {topics.dlq}: it has max.message.bytes=1048588" in refused.stderr
    # What the message says mends it.
    mended = init(kafka, topic_prefix, "--mend")
    assert mended.returncode == 0, mended.stderr
    assert f"{topics.events}: retention.ms set to -1" in mended.stderr
    assert f"{topics.dlq}: max.message.bytes set to 4194304" in mended.stderr
    assert mended.stderr.count(" set to ") == 3, "no other setting is touched"
    assert init(kafka, topic_prefix).returncode == 0


def test_a_wrong_number_of_partitions_is_refused(kafka: str, topic_prefix: str) -> None:
    topics = Topics(topic_prefix)

    async def scenario() -> None:
        await create(kafka, topics.reports, PARTITIONS + 1)  # Nobody wrote to it yet.
        wanted = specs(topics, partitions=PARTITIONS, min_insync=1)
        with pytest.raises(TopicRefused, match=r"reports: it has 3 partitions, 2 are needed"):
            await ensure_topics(kafka, wanted, replication=1)
        # With the others there, the roles see that the four do not fit together.
        for name in (topics.commands, topics.events, topics.tasks):
            await create(kafka, name, PARTITIONS)
        with pytest.raises(TopicRefused, match=r"reports: it has 3 partitions, 2 are needed"):
            await check_topics(kafka, topics)

    asyncio.run(scenario())


def test_topics_that_are_not_there_are_no_danger_to_a_role(kafka: str, topic_prefix: str) -> None:
    asyncio.run(check_topics(kafka, Topics(topic_prefix)))


def test_three_brokers_keep_three_copies_or_are_refused(
    three_brokers: EmbeddedKafka, kafka: str, topic_prefix: str
) -> None:
    bootstrap = three_brokers.bootstrap
    asked = ["--replication", "3"]
    made = init(bootstrap, topic_prefix, *asked)
    assert made.returncode == 0, made.stderr
    assert init(bootstrap, topic_prefix, *asked).returncode == 0
    topics = Topics(topic_prefix)
    asyncio.run(alter(bootstrap, topics.events, min_insync_replicas="1", retention_ms="-1"))
    asyncio.run(alter(bootstrap, topics.dlq, unclean_leader_election_enable="true"))
    refused = init(bootstrap, topic_prefix, *asked)
    assert refused.returncode == 3
    assert f"topic {topics.events}: it has min.insync.replicas=1" in refused.stderr
    assert f"topic {topics.dlq}: it has unclean.leader.election.enable=true" in refused.stderr

    # What Kafka's own topics are made by, or are, is seen on a real broker as the rules read it.
    async def kafkas_own() -> tuple[Mapping[str, Mapping[str, str]], Sequence[str]]:
        async with opened_admin(bootstrap, "look") as client:
            brokers = await _broker_settings(client)
            return brokers, await _internal_faults(client, bootstrap, 4, 3)

    brokers, no_faults = asyncio.run(kafkas_own())
    assert sorted(brokers) == ["1", "2", "3"]
    for config in brokers.values():
        wanted = [
            config[key]
            for each in INTERNALS
            for key in (each.copies_key, each.min_insync_key)
            if key is not None
        ]
        assert wanted == ["3", "2", "3"], "as cli/local/properties.py has it"
    assert no_faults == []

    single = Topics(f"{topic_prefix}single")
    assert init(bootstrap, single.prefix).returncode == 0
    refused = init(bootstrap, single.prefix, *asked)
    assert refused.returncode == 3
    assert f"topic {single.events}: it has 1 copies of a partition, 3" in refused.stderr
    assert "--replication 1" in refused.stderr

    alone = init(kafka, topic_prefix, *asked)
    assert (alone.returncode, "start as many brokers" in alone.stderr) == (3, True)
    assert asyncio.run(cluster_id(bootstrap)) != asyncio.run(cluster_id(kafka))
