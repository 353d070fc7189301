"""What is done to a lab at rest, once: topics of inputs are made anew, and the lab must go on."""

import asyncio
import random
import time
from collections.abc import Callable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from events.errors import LogUnavailable
from events.kafka.admin import ensure_topics
from tests.chaos.stage import BROKERS, SPECS, TOPICS

GONE_S_MAX = 30.0
POLL_S = 0.2


async def remake_inputs(bootstrap: str, dice: random.Random, note: Callable[[str], None]) -> str:
    """Delete a topic of inputs and make it again, empty; return its name."""
    name = dice.choice([TOPICS.commands, TOPICS.reports])
    note(f"deleting {name} and making it anew")
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        await client.start()
        await client.delete_topics([name])
    finally:
        await client.close()
    spec = next(each for each in SPECS if each.name == name)
    end_s = time.monotonic() + GONE_S_MAX
    while True:
        try:
            made = await ensure_topics(bootstrap, [spec], replication=BROKERS)
        except (KafkaError, LogUnavailable) as error:
            if time.monotonic() > end_s:
                raise
            note(f"not yet: {error!r}")
        else:
            if name in made:
                return name
        await asyncio.sleep(POLL_S)  # The brokers still know the old one.
