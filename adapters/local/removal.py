"""Removes what attempts left: at once where that is quick, else aside, and bit by bit.

A bench is clean once nothing of the attempt is in its place. A test may have left a million files:
what is put aside can be reached by no later test's name, and goes with the next teardowns.
"""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from adapters.contract import AdapterError
from adapters.folders import FOLDER, GivenUp, mounts_below, remove_tree, unmark

REMOVE_S_MAX = 20.0
"""How long one teardown removes files; well below what a teardown may take."""
UNMOUNT_S_MAX = 10.0
ASIDE = ".removing"

IsGivenUp = Callable[[], bool]
log = structlog.get_logger()


class Remover:
    """Removes the folders of attempts in one root, each by one thread at a time."""

    def __init__(self, root: Path, *, mode: int) -> None:
        """Remove below `root`, whose rights are `mode`."""
        self._root = root
        self._mode = mode
        self._aside = root / ASIDE
        self._lock = threading.Lock()
        self._busy: set[Path] = set()

    def remove(self, folder: Path, is_given_up: IsGivenUp) -> None:
        """Remove a folder, whatever the test did in it. Raises `AdapterError` if it stays."""
        ends_at = time.monotonic() + REMOVE_S_MAX
        _unmount(folder, ends_at)
        if folder.parent == self._root:
            self._open_the_way(folder)
        if _is_gone(folder):
            return
        try:
            left = self._put_aside(folder)
            with self._only(left) as is_ours:
                if is_ours and left == folder:
                    remove_tree(left, is_given_up=is_given_up)
                elif is_ours:
                    self._within(left, ends_at, is_given_up)
        except OSError as error:
            raise AdapterError(
                f"cannot remove {folder}: {error}; remove it by hand, then restore the bench",
                code="workspace_stays",
            ) from error
        self._sweep(ends_at, is_given_up)

    def _open_the_way(self, folder: Path) -> None:
        """Undo what a test may have done so that the folder cannot be moved or removed."""
        for each in (self._root, folder):
            with contextlib.suppress(OSError):
                fd = os.open(each, FOLDER)
                try:
                    unmark(fd)
                finally:
                    os.close(fd)
        with contextlib.suppress(OSError):
            if not self._root.is_symlink():
                self._root.chmod(self._mode)

    def _put_aside(self, folder: Path) -> Path:
        """Move a folder out of its place; return where it is now, its own place if it cannot."""
        aside = self._aside / f"{folder.name}.{time.monotonic_ns()}"
        if folder.is_symlink() or not folder.is_dir() or folder.parent != self._root:
            return folder
        try:
            self._without_link()
            self._aside.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
            folder.rename(aside)
        except OSError:
            return folder
        return aside

    def _without_link(self) -> None:
        """Remove a link that a test put in the place of our folder: nothing is ours behind it."""
        if self._aside.is_symlink():
            self._aside.unlink()

    def _within(self, left: Path, ends_at: float, is_given_up: IsGivenUp) -> None:
        """Remove what was put aside, as far as the time goes."""
        _unmount(left, ends_at)
        try:
            remove_tree(left, is_given_up=lambda: is_given_up() or time.monotonic() > ends_at)
        except GivenUp:
            if is_given_up():
                raise
            log.warning("workspace.removed_later", folder=str(left))

    def _sweep(self, ends_at: float, is_given_up: IsGivenUp) -> None:
        """Go on with what earlier teardowns had no time for; what resists is tried again later."""
        try:
            self._without_link()
            left = sorted(self._aside.iterdir())
        except OSError:
            return
        for each in left:
            if is_given_up() or time.monotonic() > ends_at:
                return
            with self._only(each) as is_ours, contextlib.suppress(OSError):
                if is_ours:
                    self._within(each, ends_at, is_given_up)

    @contextlib.contextmanager
    def _only(self, folder: Path) -> Iterator[bool]:
        """Say whether no other thread removes `folder`; none does so meanwhile."""
        with self._lock:
            is_ours = folder not in self._busy
            self._busy.add(folder)
        try:
            yield is_ours
        finally:
            if is_ours:
                with self._lock:
                    self._busy.discard(folder)


def _is_gone(folder: Path) -> bool:
    """Tell a folder that is not there, its root taken away or replaced by a file as well."""
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _unmount(folder: Path, ends_at: float) -> None:
    """Unmount what a test mounted, as it could: nothing is ever removed through a mount.

    What was mounted in the way of another mount goes first, so it is done until nothing changes.
    """
    left = mounts_below(folder)
    while left and time.monotonic() < ends_at:
        before = len(left)
        for point in dict.fromkeys(left):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    ["umount", "--lazy", "--", point],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=UNMOUNT_S_MAX,
                    check=False,
                )
        left = mounts_below(folder)
        if len(left) >= before:
            return
