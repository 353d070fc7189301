"""Who runs in the folder of a `teo up`: told by a lock that all its processes hold.

`teo up` takes `up.lock` and hands it on to each role, so it is free when nothing of it is left,
whatever was killed. Who took it stands in it, as an `Identity`.
"""

import asyncio
import fcntl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cli.local import DataFolderRefused
from cli.local.identity import Identity

LOCK_FILE, STATE_FILE = "up.lock", "up.json"
LEFT_S_MAX = 45.0
"""Roles of a `teo up` that was killed end within this: the worker hands in what it has."""
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """What holds the lock of a folder: `owner` took it; None if that cannot be read."""

    folder: Path
    owner: Identity | None

    @property
    def is_left_over(self) -> bool:
        """Return True if who took the lock is gone: its roles hold it, and are about to end."""
        return self.owner is None or not self.owner.is_alive

    def __str__(self) -> str:
        pid = "(unknown)" if self.owner is None else self.owner.pid
        if self.is_left_over:
            return (
                f"processes of a `teo up` that was killed (process {pid}) still run in"
                f" {self.folder}; `fuser {self.folder / LOCK_FILE}` names them"
            )
        return f"{self.folder} is in use by the `teo up` of process {pid}"


def occupant(folder: Path) -> Occupant | None:
    """Return who runs in `folder`; None: nobody. Raises `OSError`."""
    try:
        lock = (folder / LOCK_FILE).open(encoding="ascii", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with lock:
        if _try(lock, fcntl.LOCK_SH):
            return None
        return _told(lock, folder)


async def take(folder: Path, note: Callable[[str], None]) -> IO[str]:
    """Take the lock of `folder`. Waits for what a killed owner left; refuses a living one.

    Raises `DataFolderRefused`, and `OSError`.
    """
    lock = (folder / LOCK_FILE).open("a+", encoding="ascii", errors="replace")
    try:
        await _wait(lock, folder, note)
        lock.truncate(0)
        lock.write(str(Identity.own()))
        lock.flush()
    except BaseException:
        lock.close()
        raise
    return lock


async def _wait(lock: IO[str], folder: Path, note: Callable[[str], None]) -> None:
    end_s = time.monotonic() + LEFT_S_MAX
    is_told = False
    while not _try(lock, fcntl.LOCK_EX):
        found = _told(lock, folder)
        if not found.is_left_over or time.monotonic() > end_s:
            raise DataFolderRefused(f"{found}. End that, or choose another data folder.")
        # Somebody may only be looking, as `teo down` does: that is no reason to say anything.
        if not is_told and time.monotonic() > end_s - LEFT_S_MAX + 1.0:
            is_told = True
            note("waiting for what is left of a `teo up` that was killed")
        await asyncio.sleep(POLL_S)


def _told(lock: IO[str], folder: Path) -> Occupant:
    lock.seek(0)
    return Occupant(folder=folder, owner=Identity.parse(lock.read(200)))


def _try(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
