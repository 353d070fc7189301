"""The roles as real processes that can be killed, stopped and started, and known by their ports."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cli.process import PARENT_FD

STOP_S_MAX = 30.0
RESTART_S = 1.0
LOOKS_MAX = 10


class Running(Protocol):
    """What the proxy has to know of a role to tell its connections."""

    @property
    def name(self) -> str:
        """What the connections are called."""

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""


class RoleProcess:
    """One role. Started again a second after it ends by itself, as any service manager does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        parent_fd: int,
        health_port: int = 0,
    ) -> None:
        self.name = name
        self.health_port = health_port
        self.ended_by_itself: list[int] = []
        """Exit codes of ends that nobody asked for."""
        self.command = list(command)
        self._log = log
        self._env = {**env, PARENT_FD: str(parent_fd)}
        self._parent_fd = parent_fd
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end: subprocess.Popen[bytes] | None = None
        self._is_wanted = False

    @property
    def kind(self) -> str:
        """scheduler, worker, api or watcher."""
        return self.name.partition("-")[0]

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def twin(self, state_dir: Path) -> "RoleProcess":
        """Return a second process of the same command, with a state folder of its own."""
        command = list(self.command)
        command[command.index("--state-dir") + 1] = str(state_dir)
        return RoleProcess(
            self.name, command, log=self._log, env=self._env, parent_fd=self._parent_fd
        )

    @property
    def state_dir(self) -> Path:
        """Where a worker keeps what outlives its process."""
        return Path(self.command[self.command.index("--state-dir") + 1])

    def start(self) -> None:
        """Start it, if it does not run."""
        self._is_wanted = True
        if self.pid is not None:
            return
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                pass_fds=[self._parent_fd],
                start_new_session=True,
            )

    async def keep(self) -> None:
        """Start it again whenever it ends though it is wanted."""
        while True:
            await asyncio.sleep(0.2)
            process = self._process
            if self._is_wanted and process is not None and process.poll() is not None:
                if process is not self._asked_to_end:
                    self.ended_by_itself.append(process.returncode)
                await asyncio.sleep(RESTART_S)
                if self._is_wanted:
                    self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """Kill -9, and wait."""
        self._is_wanted, self._asked_to_end = False, self._process
        self.signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> None:
        """Ask it to end in good order; kill it if it does not."""
        self._is_wanted, self._asked_to_end = False, self._process
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(self._ended(), STOP_S_MAX)
        except TimeoutError:
            await self.kill()

    async def _ended(self) -> None:
        process = self._process
        while process is not None and process.poll() is None:  # noqa: ASYNC110 - no loop watches it.
            await asyncio.sleep(0.02)


def owner_of(port: int, called: int, roles: Iterable[Running]) -> str:
    """Return which role has the client end of a connection from `port`; empty: none of them."""
    # The kernel's table is no snapshot: while others come and go, an entry can be read past.
    inodes = (_inode_of(port, called) for _ in range(LOOKS_MAX))
    inode = next((each for each in inodes if each is not None), None)
    if inode is None:
        return ""
    for role in roles:
        pid = role.pid
        if pid is not None and _has(pid, f"socket:[{inode}]"):
            return role.name
    return ""


def _inode_of(port: int, called: int) -> str | None:
    # One port may be the client's end of several connections, most of them over and waiting.
    wanted = [f"0100007F:{each:04X}" for each in (port, called)]
    with suppress(OSError):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[1:3] == wanted and words[9] != "0":
                return words[9]
    return None


def _has(pid: int, target: str) -> bool:
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()) == target:
                    return True
    return False
