"""Calls into adapters under a limit. A call that will not end is left behind, never waited for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from events.errors import TeoError

log = structlog.get_logger()
T = TypeVar("T")


class StepTimedOut(TeoError):
    """Raised when an adapter's call did not end within its limit."""

    code = "timeout"
    retriable = True


class StepCut(TeoError):
    """Raised when the attempt was cut while an adapter's call was under way."""

    code = "cut"


class CancelledInside(TeoError):
    """Raised when an adapter's call cancelled itself, which must not look like our own cancel."""

    code = "cancelled_inside"
    retriable = True


class Strays:
    """Calls that ignored their cancellation. They are held, so that they end under our eyes."""

    def __init__(self) -> None:
        self._held: dict[asyncio.Task[Any], str] = {}
        """Each with the bench it may still drive; empty: it drives none."""

    def __len__(self) -> int:
        return len(self._held)

    def on(self, bench: str, step: str = "") -> tuple[asyncio.Task[Any], ...]:
        """Return what may still drive `bench`, of one step or of all, the oldest first."""
        return tuple(
            task
            for task, driven in self._held.items()
            if bench and driven == bench and not task.done() and step in ("", task.get_name())
        )

    async def end(self, task: asyncio.Task[Any], *, wait_s: float, bench: str = "") -> None:
        """Cancel `task` and wait `wait_s` for it; hold it as a stray if it does not end."""
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=wait_s)
        finally:
            if task.done():
                _swallow(task)
            else:
                log.warning("worker.call_left_behind", call=task.get_name(), bench=bench)
                self._held[task] = bench
                task.add_done_callback(self._over)

    async def end_all(self, *, wait_s: float) -> None:
        """Cancel every stray once more and wait `wait_s` for them."""
        held = tuple(self._held)
        for task in held:
            task.cancel()
        if held:
            await asyncio.wait(held, timeout=wait_s)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._held.pop(task, None)
        _swallow(task)


def _swallow(task: asyncio.Task[Any]) -> None:
    """Look at the error of a call nobody waits for any more, so that asyncio need not."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("worker.late_error", call=task.get_name(), error=repr(error))


async def limited(
    call: Coroutine[Any, Any, T],
    *,
    name: str,
    limit_s: float,
    cancel_s: float,
    abandon_s: float,
    strays: Strays,
    cut: asyncio.Event | None = None,
    bench: str = "",
) -> T:
    """Return what `call` returns; raises `StepTimedOut` after `limit_s`, `StepCut` once `cut`.

    Works also for a call that swallows its cancellation: it is given up `cancel_s` after it. A
    cancel of the caller ends the call and waits `abandon_s` for that. `bench` is what it drives.
    """
    task = asyncio.create_task(call, name=name)
    watched: list[asyncio.Task[Any]] = [task]
    if cut is not None:
        watched.append(asyncio.create_task(_until(cut), name=f"{name}-cut"))
    try:
        await asyncio.wait(watched, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await strays.end(task, wait_s=abandon_s, bench=bench)
        raise
    finally:
        for waiter in watched[1:]:
            waiter.cancel()
    if not task.done():
        await strays.end(task, wait_s=cancel_s, bench=bench)
        if cut is not None and cut.is_set():
            raise StepCut(f"{name} was cut")
        more = (
            "" if task.done() else f", nor when it was cancelled: it was left after {cancel_s:g} s"
        )
        raise StepTimedOut(f"{name} did not end within {limit_s:g} s{more}")
    return result_of(task)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def result_of(task: asyncio.Task[T]) -> T:
    """Return the result of a task that ended by itself."""
    if task.cancelled():
        raise CancelledInside(f"{task.get_name()} cancelled itself")
    return task.result()
