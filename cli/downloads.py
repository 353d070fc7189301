"""Files that are downloaded into a folder: never outside of it, never through a link in it.

The folder is held open and every name is taken below it (`openat`, O_NOFOLLOW): no name, whatever
it holds, and no link that lies there leads elsewhere, and no path is too long.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Self

from cli.exit_codes import ExitCode
from cli.problems import Problem
from cli.render import plain
from events import durable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PART = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES_MAX = 1_000


class DownloadFolder:
    """A folder to download into; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: set[tuple[int, int]] = set()
        """Files of this download: where names differ by case alone, none replaces another."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, _FOLDER)
        except OSError as error:
            raise _unwritable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BufferedRandom]:
        """Give a file to write; it gets its name when all went well, else it is removed.

        Raises `Problem` for a name that leads out of the folder, or cannot be written.
        """
        names = _inside(name, self._path)
        try:
            parent = self._parent(names[:-1])
        except OSError as error:
            raise _unwritable(self._path / name, error) from error
        part = f".{secrets.token_hex(8)}.part"
        try:
            with os.fdopen(os.open(part, _PART, 0o666, dir_fd=parent), "w+b") as file:
                yield file
                status = os.fstat(file.fileno())
            durable.replace_in(parent, part, self._free(names[-1], parent))
            self._written.add((status.st_dev, status.st_ino))
        except OSError as error:
            raise _unwritable(self._path / name, error) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=parent)
            os.close(parent)

    def _parent(self, names: Sequence[str]) -> int:
        """Return a descriptor of a folder below this one, which is made if it is not there."""
        fd = os.dup(self._fd)
        for name in names:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _free(self, name: str, parent: int) -> str:
        """Return `name`, or one like it if this download has put a file there already."""
        for number in range(2, _NAMES_MAX):
            try:
                there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return name
            if (there.st_dev, there.st_ino) not in self._written:
                return name
            name = f"{name.rpartition('~')[0] if number > 2 else name}~{number}"
        return name


def _inside(name: str, folder: Path) -> Sequence[str]:
    names = [each for each in name.split("/") if each not in ("", ".")]
    if not names or name.startswith("/") or ".." in names or "\0" in name:
        raise Problem(
            f"artifact {plain(name)!r} would be written outside {folder}",
            exit_code=ExitCode.INFRASTRUCTURE,
        )
    return names


def _unwritable(path: Path, error: OSError) -> Problem:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        what, next_step = "a link or a file is in its way", "download into an empty folder"
    else:
        what, next_step = str(error.strerror), "make room, or download into another folder"
    return Problem(
        f"{plain(str(path))} cannot be written: {what}",
        next_step=next_step,
        exit_code=ExitCode.USAGE,
    )
