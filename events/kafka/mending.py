"""Changes to topics that an operator asks for by name; nothing here happens by itself."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from events.errors import LogUnavailable
from events.kafka.admin import TOPIC_EXISTS, found_topics, opened_admin
from events.kafka.errors import mapped
from events.kafka.requests import change_topics
from events.topic_rules import mendable
from events.topics import TopicSpec

POLL_S = 0.2
GONE_S_MAX = 30.0
UNKNOWN_TOPIC = 3


async def mend_settings(
    bootstrap: str, wanted: Sequence[TopicSpec]
) -> Mapping[str, Mapping[str, str]]:
    """Set those settings of topics that would lose facts; return what was set, by topic.

    Raises `LogUnavailable`.
    """
    async with opened_admin(bootstrap, "set the settings of topics") as client:
        found = await found_topics(client, [spec.name for spec in wanted])
        changes = {
            spec.name: dict(mendable(spec, found[spec.name]))
            for spec in wanted
            if spec.name in found
        }
        changes = {name: change for name, change in changes.items() if change}
        if changes:
            await change_topics(client, changes)
    return changes


async def make_topics(bootstrap: str, wanted: Sequence[TopicSpec], *, replication: int) -> None:
    """Make those topics that are missing, whatever was lost with them. Raises `LogUnavailable`."""
    async with opened_admin(bootstrap, "make topics") as client:
        for spec in wanted:
            await _made(client, spec, replication)


async def make_anew(bootstrap: str, spec: TopicSpec, *, replication: int) -> None:
    """Delete a topic whose records nobody needs, and make it again. Raises `LogUnavailable`."""
    async with opened_admin(bootstrap, f"make {spec.name} anew") as client:
        answer = await client.delete_topics([spec.name])
        for name, code in answer.topic_error_codes:
            if code not in (0, UNKNOWN_TOPIC):
                raise LogUnavailable(f"topic {name} could not be deleted: error {code}")
        with mapped(f"make {spec.name} anew"):
            async with asyncio.timeout(GONE_S_MAX):
                while not await _made(client, spec, replication):  # noqa: ASYNC110 - it goes late.
                    await asyncio.sleep(POLL_S)


async def _made(client: AIOKafkaAdminClient, spec: TopicSpec, replication: int) -> bool:
    new = NewTopic(
        name=spec.name,
        num_partitions=spec.partitions,
        replication_factor=replication,
        topic_configs=dict(spec.config),
    )
    [(_, code, *message)] = (await client.create_topics([new])).topic_errors
    if code not in (0, TOPIC_EXISTS):
        raise LogUnavailable(f"topic {spec.name} could not be created: error {code} {message}")
    return bool(code == 0)
