"""The frame of a role: event loop, signals, the parent it must not outlive. Decides nothing."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
import uvloop

from adapters.local.confine import hide
from cli import telemetry
from cli.folders import PRIVATE_UMASK
from cli.local.handover import INSPECTABLE
from cli.problems import Problem
from events.errors import TeoError

CANCEL_S = 30.0
"""What a role's work gets to clean up before it is cancelled once more."""
PARENT_FD = "TEO_PARENT_FD"
"""A pipe whose other end the parent holds: when it closes, the parent is dead and the role ends."""
"""Set, others of the same user may look into the process: debuggers, profilers, core files."""


class RoleFailed(TeoError):
    """Raised when a role must not go on: its process ends with exit code 3 and the reason."""

    code = "role_failed"


Role = Callable[[asyncio.Event], Awaitable[None]]
"""A role works until the event is set, then ends in good order."""


def now() -> datetime:
    """Return the wall clock, aware UTC."""
    return datetime.now(UTC)


def run_role(name: str, role: Role) -> None:
    """Run `role` until a signal, the death of the parent, or its own end.

    What it makes is its user's alone, and other processes of that user cannot look into it: a test
    may run as the same one, and a role holds tokens and other tests' variables.
    """
    close_to_others()
    end_telemetry = telemetry.start(name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(name, role))
    except* TeoError as group:
        first = group.exceptions[0]
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise Problem(f"{name}: {first}", exit_code=3) from group
    finally:
        end_telemetry()


def close_to_others() -> None:
    """Keep what this process makes and holds from others, as far as the system does that."""
    os.umask(PRIVATE_UMASK)
    if not os.environ.get(INSPECTABLE):
        hide()


async def _until_stopped(name: str, role: Role) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.environ.get(PARENT_FD)

    def parent_is_dead(pipe: int) -> None:
        loop.remove_reader(pipe)  # The end of a pipe can be read again and again.
        stop.set()

    if parent:
        loop.add_reader(int(parent), parent_is_dead, int(parent))
    log = structlog.get_logger()
    log.info("role.started", pid=os.getpid())
    try:
        await role(stop)
    finally:
        if parent:
            loop.remove_reader(int(parent))
        log.info("role.ended", name=name)


async def until(stop: asyncio.Event, work: Awaitable[object]) -> None:
    """Await `work` until it ends or `stop` is set; then cancel it and wait for its cleaning up."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        # More than once: whatever the work waits for may swallow a cancel, and go on.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_S)
        with contextlib.suppress(asyncio.CancelledError):
            await task
