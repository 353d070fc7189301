"""An event loop whose time is virtual: it jumps to the next timer, so an hour takes a second.

The same program does the same thing in every process: tasks hash by the number of their making,
so no set of tasks is walked in the order of addresses.
"""

import asyncio
import itertools
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(AssertionError):
    """Raised when nothing can ever happen any more."""


class _Task(asyncio.Task[Any]):
    _number = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._hash = next(self._number)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other


LEFT_S = 120.0
TICKS_PER_S = 1_000_000
"""Time moves on a grid: a timer that is due is due, and none waits for a rounding error."""


class _Selector(selectors.SelectSelector):
    now_ticks = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock("every task waits, and no timer is set")
        self.now_ticks += round(timeout * TICKS_PER_S)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 0.25 / TICKS_PER_S
        self.set_task_factory(
            lambda loop, coro, context=None: _Task(coro, loop=loop, context=context)
        )

    def time(self) -> float:
        """Return the virtual time, seconds from 0."""
        return self._virtual.now_ticks / TICKS_PER_S

    def call_at(self, when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        """Set a timer, on the grid; one in the future is never moved into the present."""
        tick = math.ceil(when * TICKS_PER_S - 0.01)
        if when > self.time():
            tick = max(tick, self._virtual.now_ticks + 1)
        return super().call_at(tick / TICKS_PER_S, *args, **kwargs)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a virtual loop of its own; what it leaves behind gets a while to end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_bounded(work))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in sorted(left, key=hash):
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=LEFT_S)
            assert not stuck, f"these do not end when cancelled: {sorted(map(repr, stuck))}"
