"""A disk whose power can be cut: what was not synced is gone, as on a machine that loses its power.

An ext4 file system in a file, on a loop device. The cut is ext4's own `EXT4_IOC_SHUTDOWN` without a
flush of its journal, as `godown -f` of xfstests does it: in one moment nothing more reaches the
disk, neither dirty pages nor the journal's open transaction. The next mount recovers the journal.
"""

import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

SHUTDOWN = 0x8004587D
"""`_IOR('X', 125, __u32)`"""
NO_LOG_FLUSH = struct.pack("I", 2)
SIZE_MB = 1024
GONE_S_MAX = 20.0
POLL_S = 0.02


class NoDisk(Exception):
    """Raised where no file system may be mounted, or no processes may be looked at."""


class CuttableDisk:
    """A file system at `folder`, whose bytes are in `image`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        self._image = image

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NoDisk("only root may mount a file system")
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB * 1024 * 1024)
        self._run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder.is_mount():
            self.cut()
        self._image.unlink()

    def mount(self) -> None:
        """Give it power again. Raises `NoDisk`.

        It is a copy that is mounted: if anything in the system, such as another mount namespace,
        still holds the file system that was shut down, the same file would give that one again.
        """
        fresh = self._image.with_suffix(".fresh")
        self._run("cp", "--sparse=always", str(self._image), str(fresh))
        fresh.replace(self._image)
        self._run("mount", "-o", "loop", str(self._image), str(self.folder))

    def cut(self) -> None:
        """Cut the power at once, end every process that uses it, and unmount what is left."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)
        end_s = time.monotonic() + GONE_S_MAX
        while not self._is_unmounted():
            assert time.monotonic() < end_s, f"{self.folder} stays in use by {self.users()}"
            time.sleep(POLL_S)

    def _is_unmounted(self) -> bool:
        """End its users and unmount it; a process that was just forked is seen the next time."""
        for pid in self.users():
            kill(pid)
        done = subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)
        return done.returncode == 0

    def users(self) -> list[int]:
        """Return the processes that have a file of it open or mapped, or work in it."""
        inside = f"{self.folder}/"
        every = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [
            int(entry.name)
            for entry in every
            if int(entry.name) != os.getpid() and any(inside in path for path in _paths(entry))
        ]

    def _run(self, *command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise NoDisk(f"{command[0]}: {error}") from error
        if done.returncode:
            raise NoDisk(f"{' '.join(command)}: {done.stderr.strip()}")


def _paths(process: Path) -> Iterator[str]:
    """Yield what a process has open and mapped; what it lets go meanwhile is left out."""
    with suppress(OSError):
        for link in (process / "cwd", *(process / "fd").iterdir()):
            with suppress(OSError):
                yield f"{link.readlink()}/"
    with suppress(OSError):
        yield (process / "maps").read_text()


def kill(pid: int) -> None:
    """End a process, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
