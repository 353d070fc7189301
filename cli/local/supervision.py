"""What is started again whenever it ends by itself: roles and Kafka. Never ends by an error.

A note, a log or a start that fails ends no supervision: on a full disk all of them do, and when
there is room again everything must come back.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cli.local.broker import rotate
from cli.local.handover import ENVIRONMENT_FD, hand_over, parted
from cli.process import PARENT_FD

RESTART_WAIT_S = 1.0
PAUSE_S_MAX = 60.0
"""Between two starts of what does not come up, as Kafka on a full disk."""
STOP_S_MAX = 15.0
POLL_S = 0.1
TAIL_LINES = 10
TAIL_BYTES_MAX = 64 * 1024
NODE = 1
"""The embedded Kafka's only one."""

Note = Callable[[str], None]


class Broker(Protocol):
    """The part of the embedded Kafka that is watched."""

    def is_alive(self, node: int) -> bool: ...

    async def restart(self, node: int) -> None: ...


async def start_again(start: Callable[[], Awaitable[None]], name: str, note: Note) -> None:
    """Start it until it starts, with a pause before each try that doubles."""
    pause_s = RESTART_WAIT_S
    while True:
        await asyncio.sleep(pause_s)
        try:
            await start()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next try may succeed.
            note(f"{name} did not start: {error}")
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
        else:
            return


async def keep_alive(cluster: Broker, note: Note) -> None:
    """Start the embedded Kafka again whenever it ends by itself: same ports, same data."""
    while True:
        if cluster.is_alive(NODE):
            await asyncio.sleep(POLL_S)
            continue
        note(f"Kafka ended; starting it again in {RESTART_WAIT_S:.0f} s")
        await start_again(lambda: cluster.restart(NODE), "Kafka", note)
        note("Kafka is up again")


async def cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a task, and return when it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a role inherits: the pipe whose other end the parent holds, and the folder's lock."""

    parent_fd: int
    lock_fd: int


class RoleProcess:
    """One role's process, started again whenever it ends by itself."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        held: Held,
        note: Note,
        on_pid: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self.exit_code: int | None = None
        """Of its last process that ended; None: none has."""
        self._command = [sys.executable, "-m", "cli.main", "serve", *arguments]
        self._held = held
        self._log = log
        self._note = note
        self._on_pid = on_pid
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None
        self._tail_start = 0

    async def start(self) -> None:
        """Start the process and watch over it."""
        self._note(f"starting {self.name}")
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        plain, later = parted(os.environ)
        ours, theirs = socket.socketpair()
        own = {
            PARENT_FD: str(self._held.parent_fd),
            ENVIRONMENT_FD: str(theirs.fileno()),
            "PYTHONSAFEPATH": "1",  # The folder we are in may hold an `api` or `events` too.
        }
        self._handing = asyncio.create_task(hand_over(ours, later))
        with theirs, self._output() as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=plain | own,
                pass_fds=[self._held.parent_fd, self._held.lock_fd, theirs.fileno()],
                start_new_session=True,
            )
        self._on_pid(self.name, self._process.pid)

    def _output(self) -> BinaryIO:
        """Open its log; a role whose log cannot be written works without."""
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            rotate(self._log)
            output = self._log.open("ab")
        except OSError as error:
            self._note(f"{self.name} has no log: {error}")
            return Path(os.devnull).open("ab")
        if self._process is None:
            self._tail_start = output.seek(0, os.SEEK_END)
        return output

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            self.exit_code = await self._process.wait()
            ended = f"{self.name} ended with {self.exit_code}"
            self._note(f"{ended}; starting it again ({self._log})")
            await start_again(self._spawn, self.name, self._note)

    def tail(self) -> list[str]:
        """Return the last lines of its log, none of before it was first started."""
        lines = tail(self._log, start=self._tail_start)
        return [line for line in lines if line.strip()][-TAIL_LINES:]

    async def stop(self) -> None:
        """End it in good order; kill it if it does not end in time."""
        if self._watch is not None:
            await cancelled(self._watch)
        if self._handing is not None:
            await cancelled(self._handing)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def tail(log: Path, *, start: int = 0) -> list[str]:
    """Return the last lines of a log from the byte `start` on; none if it cannot be read."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - TAIL_BYTES_MAX))
            return file.read(TAIL_BYTES_MAX).decode(errors="replace").splitlines()
    except OSError:
        return []
