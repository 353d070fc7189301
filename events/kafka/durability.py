"""Whether a broker has facts on its disk before it acknowledges them. Changes one setting only.

Kafka acknowledges what is in the memory of enough brokers. With one broker that is lost when the
machine loses its power, unless the topic says that each append is written to the disk first. The
end of a transaction is acknowledged once `__transaction_state` has it, so that topic must too.
"""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError

from events.errors import LogUnavailable
from events.internal_rules import TRANSACTIONS
from events.kafka.admin import opened_admin, topic_settings
from events.kafka.requests import change_topics
from events.topics import FLUSH_KEY, Durability, TopicSpec

EACH = "1"
TRANSACTION = 1
"""The kind of coordinator that is asked for: of transactions, not of groups."""
ASK_TRIES, ASK_PAUSE_S = 100, 0.1

log = structlog.get_logger()


async def keep_facts(
    bootstrap: str,
    wanted: Iterable[TopicSpec],
    durability: Durability,
    *,
    is_broker_ours: bool = False,
) -> frozenset[str]:
    """Make the topics of facts durable as asked; return the names of those that were changed.

    Kafka's own topic of transactions is made durable with them. It is made fast again only if the
    broker is ours alone: others may rely on it. Raises `LogUnavailable`.
    """
    names = {spec.name for spec in wanted if spec.has_facts}
    is_disk = durability == "disk"
    if is_disk or is_broker_ours:
        names.add(TRANSACTIONS)
    async with opened_admin(bootstrap, f"keep facts on {durability}") as client:
        if is_disk:
            await _make_transactions(client)
        found = await topic_settings(client, sorted(names))
        changed = {name for name, config in found.items() if is_on_disk(config) != is_disk}
        if changed:
            value = EACH if is_disk else None
            await change_topics(client, {name: {FLUSH_KEY: value} for name in changed})
    return frozenset(changed)


def is_on_disk(config: dict[str, str]) -> bool:
    """Return True if a topic of this `config` has each append on disk before it is acknowledged."""
    return config.get(FLUSH_KEY) == EACH


async def _make_transactions(client: AIOKafkaAdminClient) -> None:
    """Return once Kafka's own topic of transactions is there: the first who asks makes it."""
    for _ in range(ASK_TRIES):
        try:
            await client.find_coordinator("teo", TRANSACTION)
        except CoordinatorNotAvailableError:
            await asyncio.sleep(ASK_PAUSE_S)
        else:
            return
    raise LogUnavailable("Kafka does not make its topic of transactions; see the broker's log")
