"""Trees that tests left, by descriptors: any depth, any names, and never by a link out of them.

A path is looked up anew each time it is used, so a test can swap what it names in between. Here a
folder is opened once, and all else is reached from it name by name (`openat`, O_NOFOLLOW). One
folder is open at a time, however deep the tree is, and nothing recurses.
"""

import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LINKS_MAX = 40
"""As many links as Linux follows for one path."""
RESCANS_MAX = 1_000
_LOOK_EVERY = 256
_RIGHTS = 0o700
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of Linux, where a `long` has 8 bytes."""
_UNCHANGEABLE = 0x10 | 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL."""

Identity = tuple[int, int]
"""Device and inode: what a file or folder is, whatever its name."""


class LeadsOut(OSError):
    """Raised when a link leads out of the folder that is held."""


class GivenUp(Exception):
    """Raised when somebody said that work on a tree shall end before it is done."""


def identity_of(status: os.stat_result) -> Identity:
    """Return what a file or folder is, whatever its name."""
    return status.st_dev, status.st_ino


class Folder:
    """A folder that is held open: it stays this one, whatever is done to its name."""

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        """Open `path`. Raises `OSError`, also for a link unless `follow`."""
        self._fd = -1
        self._lock = threading.Lock()
        self.path = path
        self.real = os.path.realpath(path)
        """Where it is without links, as it was when it was opened."""
        self._fd = os.open(path, FOLDER & ~os.O_NOFOLLOW if follow else FOLDER)

    def descriptor(self) -> int:
        """Return a descriptor of the folder that the caller closes. Raises `OSError` if closed."""
        with self._lock:
            if self._fd < 0:
                raise OSError(errno.EBADF, "the folder was given up", str(self.path))
            return os.dup(self._fd)

    def close(self) -> None:
        """Give the folder up."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    @property
    def status(self) -> os.stat_result:
        """Return what the folder is now."""
        with self._lock:
            return os.fstat(self._fd)

    @property
    def is_removed(self) -> bool:
        """Return whether the folder has been removed: it can hold nothing any more."""
        return self.status.st_nlink == 0

    @property
    def is_in_place(self) -> bool:
        """Return whether its path still names this folder, and no link or other folder."""
        try:
            there = self.path.lstat()
        except OSError:
            return False
        return identity_of(there) == identity_of(self.status)

    def open(self, path: str, *, expect: Identity | None = None) -> BinaryIO:
        """Open the regular file that `path` names below the folder; links inside are followed.

        Raises `LeadsOut`, `IsADirectoryError`, or `OSError` if it cannot be read, is no regular
        file, or is not the file `expect` any more. Pipes and devices are never opened.
        """
        fd = _Lookup(self, path).go()
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        if expect is not None and identity_of(status) != expect:
            os.close(fd)
            raise OSError(errno.ESTALE, "is another file than the one that was found", path)
        return os.fdopen(fd, "rb")


class _Lookup:
    """Goes from a folder to the file that a path names, through links by hand.

    `todo` are the names still to go, the next one last. `above` are the folders gone through, for
    the `..` of a link; what would go above the folder, or begins elsewhere, leads out.
    """

    def __init__(self, folder: Folder, path: str) -> None:
        self._folder = folder
        self._path = path
        self._todo = path.split("/")[::-1]
        self._above: list[str] = []
        self._links = 0
        self._fd = folder.descriptor()

    def go(self) -> int:
        """Return a descriptor of the file. Raises `OSError`; a pipe or device is not opened."""
        try:
            while self._todo:
                self._step(self._todo.pop())
        except BaseException:
            os.close(self._fd)
            raise
        return self._fd

    def _step(self, name: str) -> None:
        if name in ("", "."):
            return
        if name == "..":
            if not self._above:
                raise self._leads_out()
            self._restart(self._above[:-1])
            return
        mode = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            self._follow(os.readlink(name, dir_fd=self._fd))
        elif stat.S_ISDIR(mode):
            self._fd = _switched(self._fd, os.open(name, FOLDER, dir_fd=self._fd))
            self._above.append(name)
        elif not self._todo and stat.S_ISREG(mode):
            self._fd = _switched(self._fd, os.open(name, FILE, dir_fd=self._fd))
        else:
            raise OSError(errno.EINVAL, "is not a regular file", self._path)

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        if not target.startswith("/"):
            self._todo += target.split("/")[::-1]
            return
        whole = os.path.normpath(target)
        if whole != self._folder.real and not whole.startswith(f"{self._folder.real}/"):
            raise self._leads_out()
        self._restart(os.path.relpath(whole, self._folder.real).split("/"))

    def _restart(self, names: Sequence[str]) -> None:
        """Go on with `names` from the folder, before what is still to go."""
        self._todo += names[::-1]
        self._above.clear()
        self._fd = _switched(self._fd, self._folder.descriptor())

    def _leads_out(self) -> LeadsOut:
        return LeadsOut(errno.EXDEV, "is a link out of the workspace", self._path)


def _switched(old: int, new: int) -> int:
    os.close(old)
    return new


class Descent:
    """Goes through a tree with one folder open: down by name, up by `..`, at any depth."""

    def __init__(self, fd: int) -> None:
        """Begin in the folder `fd`, which is this object's from now on."""
        self.fd = fd
        self._above: list[Identity] = []

    def down(self, name: str, *, with_rights: bool = False) -> None:
        """Go into the folder `name`. Raises `OSError`, also for a link.

        `with_rights`: whatever rights were taken from it are given back first. A folder that can be
        listed and not entered is not gone into: there would be no way back out of it.
        """
        if with_rights:
            _give_rights(self.fd, name)
        fd = os.open(name, FOLDER, dir_fd=self.fd)
        try:
            os.stat("..", dir_fd=fd)
        except OSError:
            os.close(fd)
            raise
        self._above.append(identity_of(os.fstat(self.fd)))
        self.fd = _switched(self.fd, fd)

    def up(self) -> None:
        """Go back to the folder above. Raises `OSError` if somebody moved the tree meanwhile."""
        fd = os.open("..", FOLDER, dir_fd=self.fd)
        if identity_of(os.fstat(fd)) != self._above.pop():
            os.close(fd)
            raise OSError(errno.ESTALE, "the folder was moved while it was read")
        self.fd = _switched(self.fd, fd)

    def close(self) -> None:
        """Give up the folder it is in."""
        os.close(self.fd)


def _give_rights(parent_fd: int, name: str) -> None:
    """Let this user read, change and enter a folder of its own; a link is not followed."""
    mode = os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode) or mode & _RIGHTS == _RIGHTS:
        return
    if hasattr(os, "O_PATH"):
        # What is opened so needs no rights, and /proc names it and nothing else.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            # One that is marked as unchangeable is open to whoever may mark it.
            with suppress(PermissionError):
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | _RIGHTS)  # noqa: PTH101
        finally:
            os.close(fd)
    else:
        os.chmod(name, stat.S_IMODE(mode) | _RIGHTS, dir_fd=parent_fd)


def remove_tree(path: Path, *, is_given_up: Callable[[], bool] = lambda: False) -> None:
    """Remove what `path` names: a tree of any depth and rights, or a link itself.

    What is not there is removed. Raises `OSError` with what stays, or `GivenUp`.
    """
    if mounts := mounts_below(path):
        raise OSError(errno.EBUSY, "is a mount point: unmount it", mounts[0])
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        path.unlink()
        return
    descent = Descent(os.open(path.parent, FOLDER & ~os.O_NOFOLLOW))
    try:
        _remove(descent, path.name, is_given_up)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        descent.close()


def _remove(descent: Descent, name: str, is_given_up: Callable[[], bool]) -> None:
    """Empty the folder `name` from below and remove it. Each level is a name and a list."""
    names: list[str] = []
    left: list[list[str]] = [[name]]
    rescans = 0
    while left:
        if left[-1]:
            names.append(left[-1].pop())
            descent.down(names[-1], with_rights=True)
            left.append(_empty(descent.fd, is_given_up))
            continue
        left.pop()
        if not names:
            return
        descent.up()
        try:
            os.rmdir(names[-1], dir_fd=descent.fd)
        except OSError as error:
            # Some file systems pass over entries while others are removed.
            rescans += 1
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or rescans > RESCANS_MAX:
                raise
            left[-1].append(names[-1])
        names.pop()


def _empty(fd: int, is_given_up: Callable[[], bool]) -> list[str]:
    """Remove all but the folders of a folder; return the names of those."""
    unmark(fd)
    return _each_file(fd, lambda name: _unlink(fd, name), is_given_up)


def _each_file(fd: int, do: Callable[[str], None], is_given_up: Callable[[], bool]) -> list[str]:
    """Do something to all but the folders of a folder; return the names of those."""
    folders: list[str] = []
    with os.scandir(fd) as entries:
        for number, entry in enumerate(entries):
            if number % _LOOK_EVERY == 0 and is_given_up():
                raise GivenUp
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                do(entry.name)
    return folders


def _unlink(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except PermissionError:
        if not stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            raise  # A pipe or device is not opened.
        file = os.open(name, FILE, dir_fd=fd)
        try:
            unmark(file)
        finally:
            os.close(file)
        os.unlink(name, dir_fd=fd)


def unmark(fd: int) -> None:
    """Take from a file or folder the marks by which nobody may change it (`chattr +i`, `+a`).

    A root can set them, on file systems that know them, and take them away; else nothing is done.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):
        flags = bytearray(8)
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        number = int.from_bytes(flags[:4], sys.byteorder)
        if number & _UNCHANGEABLE:
            flags[:4] = (number & ~_UNCHANGEABLE).to_bytes(4, sys.byteorder)
            fcntl.ioctl(fd, _SET_FLAGS, flags)


def give_tree(
    path: Path, uid: int, gid: int, *, is_given_up: Callable[[], bool] = lambda: False
) -> None:
    """Give a folder, and all there is in it, to a user: links themselves, not what they lead to.

    Raises `OSError`, or `GivenUp`.
    """
    descent = Descent(os.open(path, FOLDER))
    try:
        left = [_give(descent.fd, uid, gid, is_given_up)]
        while left:
            if left[-1]:
                descent.down(left[-1].pop())
                left.append(_give(descent.fd, uid, gid, is_given_up))
                continue
            left.pop()
            if left:
                descent.up()
    finally:
        descent.close()


def _give(fd: int, uid: int, gid: int, is_given_up: Callable[[], bool]) -> list[str]:
    """Give a folder and what is no folder in it; return the names of its folders."""
    os.fchown(fd, uid, gid)
    own = partial(os.chown, uid=uid, gid=gid, dir_fd=fd, follow_symlinks=False)
    return _each_file(fd, own, is_given_up)


def mounts_below(path: Path) -> Sequence[str]:
    """Return what is mounted at `path` or below it, the deepest first; Linux alone tells."""
    real = os.path.realpath(path)
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    points = [_plain(line.split(" ")[4]) for line in lines]  # One can be in the way of another.
    below = [point for point in points if point == real or point.startswith(f"{real}/")]
    return sorted(below, key=len, reverse=True)


def _plain(point: str) -> str:
    for code in ("\\040", "\\011", "\\012", "\\134"):
        point = point.replace(code, chr(int(code[1:], 8)))
    return point
