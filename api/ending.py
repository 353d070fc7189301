"""Ends tasks for sure. Never returns before they are done."""

import asyncio
from collections.abc import Sequence
from typing import Any

from api.limits import CANCEL_AGAIN_S


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until they end: `asyncio.wait_for` of Python 3.11 may swallow a cancel."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
