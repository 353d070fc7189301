"""Creates the topics, or refuses topics that would lose facts. Never deletes or changes any."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from events.errors import LogUnavailable, TopicMissing
from events.kafka.errors import mapped
from events.topics import TopicSpec

POLL_S = 0.1
REQUEST_MS = 15_000
CHECKED = ("retention.ms", "cleanup.policy", "unclean.leader.election.enable")
TOPIC_EXISTS = 36


async def wait_for_broker(bootstrap: str, *, wait_s: float) -> None:
    """Return once a broker answers. Raises `LogUnavailable` after `wait_s`."""
    end_s = asyncio.get_running_loop().time() + wait_s
    while True:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
        try:
            await client.start()
        except (KafkaError, OSError) as error:
            if asyncio.get_running_loop().time() > end_s:
                raise LogUnavailable(
                    f"no Kafka answers at {bootstrap} ({error!r}); start one, or name another"
                ) from error
            await asyncio.sleep(POLL_S)
        else:
            return
        finally:
            await client.close()


async def ensure_topics(bootstrap: str, specs: Sequence[TopicSpec], *, replication: int) -> None:
    """Create the topics that are missing; check those that exist.

    Raises `TopicMissing` if a topic has other partitions, or settings that lose facts.
    """
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS)
    with mapped(f"create topics at {bootstrap}"):
        await client.start()
        try:
            await _create(client, specs, replication)
            await _check(client, specs)
        finally:
            await client.close()


async def _create(
    client: AIOKafkaAdminClient, specs: Sequence[TopicSpec], replication: int
) -> None:
    new = [
        NewTopic(
            name=spec.name,
            num_partitions=spec.partitions,
            replication_factor=replication,
            topic_configs=dict(spec.config),
        )
        for spec in specs
    ]
    answer = await client.create_topics(new)
    for topic, code, *message in answer.topic_errors:
        if code not in (0, TOPIC_EXISTS):
            raise LogUnavailable(f"topic {topic} could not be created: error {code} {message}")


async def _check(client: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    names = [spec.name for spec in specs]
    for _ in range(100):
        described = {each["topic"]: each for each in await client.describe_topics(names)}
        if all(described.get(name, {}).get("error_code") == 0 for name in names):
            break
        await asyncio.sleep(POLL_S)
    configs = await _configs(client, names)
    for spec in specs:
        found = len(described[spec.name].get("partitions", ()))
        if found != spec.partitions:
            raise TopicMissing(
                f"topic {spec.name} has {found} partitions, {spec.partitions} are asked for: "
                "the number is fixed at the first start; use it, or another topic prefix"
            )
        for key in CHECKED:
            value, wanted = configs[spec.name].get(key), spec.config.get(key)
            if wanted is not None and value is not None and value != wanted:
                raise TopicMissing(
                    f"topic {spec.name} has {key}={value}, it must be {wanted}: mend the topic"
                )


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for answer in await client.describe_configs(resources):
        for _code, _message, _kind, name, entries in answer.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
