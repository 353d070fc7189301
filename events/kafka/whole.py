"""Starts and stops clients of aiokafka as a whole, so that a cancel leaves no connection open.

aiokafka 0.14 forgets a connection that it is just making or closing when it is cancelled. So what
has begun is given a moment to come through before the cancel goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

from events.kafka.errors import is_cancelled

GRACE_S = 1.0
"""Where brokers answer, a start or a stop is through in a fraction of that."""


class Client(Protocol):
    """A consumer or a producer."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""


async def started(
    client: Client, *, limit_s: float, stop: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Connect `client`, or `stop` it. Raises TimeoutError after `limit_s`, and Kafka's errors."""
    try:
        async with asyncio.timeout(limit_s):
            await through(client.start())
    except BaseException:
        await (stop() if stop else stopped(client))
        raise


async def stopped(client: Client) -> None:
    """Disconnect `client`. Raises CancelledError only if somebody cancels the current task."""
    await through(_stop(client))


async def dropped(producer: AIOKafkaProducer, *, limit_s: float) -> None:
    """Disconnect `producer` within `limit_s`, whatever state it is in."""
    with suppress(Exception):
        async with asyncio.timeout(limit_s):
            await stopped(producer)
    await producer.client.close()


async def _stop(client: Client) -> None:
    try:
        await client.stop()
    except asyncio.CancelledError:
        inner = _inner(client)
        if is_cancelled():
            # As they are: there is no time to end in good order.
            for connection in list(inner._conns.values()) if inner else ():  # noqa: SLF001
                connection.close()
            raise
        # While a broker is away, aiokafka 0.14 lets the cancel of a fetch that waits to be tried
        # again out of a consumer's `stop`, and leaves the connections open.
        if isinstance(client, AIOKafkaConsumer):
            fetches = list(client._fetcher._pending_tasks)  # noqa: SLF001 - `stop` forgot them.
            for fetch in fetches:
                fetch.cancel()
            await asyncio.gather(*fetches, return_exceptions=True)
        if inner is not None:
            await inner.close()


def _inner(client: Client) -> AIOKafkaClient | None:
    """Return what holds the connections of `client`."""
    if isinstance(client, AIOKafkaConsumer):
        return client._client  # noqa: SLF001
    return client.client if isinstance(client, AIOKafkaProducer) else None


async def through(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; when cancelled, however often, let it come through first if it does so soon."""
    task = asyncio.ensure_future(_settled(work))
    try:
        await asyncio.shield(task)
    finally:
        if not task.done():
            await _given(GRACE_S, task)
            if task.cancel():
                await _given(GRACE_S, task)


async def _settled(work: Coroutine[Any, Any, None]) -> None:
    await work
    # What `start` makes at its very end must have begun before `stop` cancels and awaits it.
    await asyncio.sleep(0)


async def _given(limit_s: float, task: asyncio.Task[None]) -> None:
    """Wait for `task`, at most `limit_s`. Whoever calls was cancelled, and need not be again."""
    clock = asyncio.get_running_loop().time
    end_s = clock() + limit_s
    while not task.done() and (left_s := end_s - clock()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=left_s)
