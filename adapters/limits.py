"""Tells when a run has had its time; what then happens is the adapter's."""

import asyncio
from collections.abc import Callable

from adapters.contract import Attempt, Ended

LOOK_S_MAX = 3600.0
"""Longest sleep without a look at the clock; loops differ in how long they can sleep."""


async def limit_reached(
    attempt: Attempt,
    *,
    silent_since: Callable[[], float | None],
    lease_end: Callable[[], float],
) -> Ended:
    """Return the first limit the run reaches, counted from now on the clock of the running loop.

    `silent_since` gives when output was last heard; None while it is being handed over, which is
    no silence. `lease_end` is asked again and again, because a lease is renewed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + attempt.timeout_s
    while True:
        now = loop.time()
        heard_at = silent_since()
        silence_end = end
        if attempt.idle_timeout_s is not None:
            silence_end = (now if heard_at is None else heard_at) + attempt.idle_timeout_s
        if now >= end:
            return "timeout"
        if now >= lease_end():
            return "lease_expired"
        if now >= silence_end:
            return "idle_timeout"
        await asyncio.sleep(min(end, silence_end, lease_end(), now + LOOK_S_MAX) - now)
