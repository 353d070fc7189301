"""Folders and files of ours: closed to others, whoever made them. Never touches what is shared."""

import os
import shlex
import stat
from pathlib import Path

from cli.problems import Problem

PRIVATE_UMASK = 0o077
"""All that a role makes is its user's alone; tests get their own (`adapters.local.confine`)."""
_OTHERS = 0o077


def home() -> Path:
    """Return this user's home; the root of all, where one may not write, if there is none."""
    try:
        return Path.home()
    except RuntimeError:  # A container's user without a name, and HOME is not set.
        return Path("/")


def private_folder(folder: Path) -> None:
    """Make a folder that only its user can enter, or make one so that is there.

    Raises `Problem`, with the command to run, for one that cannot be, or that others use too.
    """
    _make(folder)
    _close(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise Problem(
            f"{folder} is not this user's to write to",
            next_step=f"name another one, or make it yours: sudo chown -R $(id -un) {word(folder)}",
            exit_code=2,
        )


def _close(folder: Path) -> None:
    try:
        status = folder.stat()
        mode = stat.S_IMODE(status.st_mode)
        if not mode & _OTHERS:
            return
        if mode & stat.S_ISVTX or folder.resolve() in (Path("/"), home()):
            raise Problem(
                f"{folder} is a folder that others use too",
                next_step="name one of its own, such as " + str(folder / "teo"),
                exit_code=2,
            )
        folder.chmod(mode & ~_OTHERS)
    except OSError as error:
        raise Problem(
            f"{folder} cannot be closed to other users: {error}",
            next_step=_make_it_yours(folder),
            exit_code=2,
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as error:
        wrong = next(each for each in (folder, *folder.parents) if each.exists())
        raise Problem(
            f"{folder} cannot be a folder: {wrong} is a file",
            next_step="name another one",
            exit_code=2,
        ) from error
    except OSError as error:
        raise Problem(
            f"{folder} cannot be made: {error.strerror}",
            next_step=f"name another one, or {_make_it_yours(folder)}",
            exit_code=2,
        ) from error


def _make_it_yours(folder: Path) -> str:
    return f"make it yours: sudo install -d -m 0700 -o $(id -un) {word(folder)}"


def word(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


def private_file(path: Path) -> None:
    """Close a file to other users, if it is there and its user's own."""
    for each in (path, *path.parent.glob(f"{path.name}-*")):
        try:
            status = each.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            each.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
