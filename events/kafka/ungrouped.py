"""Starting a consumer that is in no group, so that it can be stopped at once."""

import asyncio

from aiokafka import AIOKafkaConsumer


async def start_ungrouped(consumer: AIOKafkaConsumer, *, limit_s: float) -> None:
    """Connect `consumer`. Raises TimeoutError after `limit_s`, and Kafka's own errors.

    aiokafka 0.14 makes a task at the very end of `start`, and `stop` cancels and awaits it: had it
    not begun, its CancelledError would come out of `stop`, with connections left open.
    """
    async with asyncio.timeout(limit_s):
        await consumer.start()
        await asyncio.sleep(0)
