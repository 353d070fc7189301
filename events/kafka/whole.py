"""Starts and stops clients of aiokafka as a whole, so that a cancel leaves no connection open.

aiokafka 0.14 forgets a connection that it is just making or closing when it is cancelled. So what
has begun is given a moment to come through before the cancel goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

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
        await (stop or client.stop)()
        raise


async def stopped(client: Client) -> None:
    """Disconnect `client`."""
    await through(client.stop())


async def through(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; when cancelled, let it come through first if it does so soon."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait([task], timeout=GRACE_S)
            if task.cancel():
                await asyncio.wait([task], timeout=GRACE_S)
        # What `start` makes at its very end must have begun before `stop` cancels and awaits it.
        await asyncio.sleep(0)
