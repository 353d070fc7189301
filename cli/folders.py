"""Folders and files of ours: closed to others, whoever made them. Never touches what is shared."""

import os
import stat
from pathlib import Path

from cli.problems import Problem

PRIVATE_UMASK = 0o077
"""All that a role makes is its user's alone; tests get their own (`adapters.local.confine`)."""
_OTHERS = 0o077


def private_folder(folder: Path) -> None:
    """Make a folder that only its user can enter, or make one so that is there.

    Raises `Problem`, with the command to run, for one that cannot be, or that others use too.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        mode = stat.S_IMODE(status.st_mode)
        if not mode & _OTHERS:
            return
        if mode & stat.S_ISVTX or folder.resolve() in (Path("/"), Path.home()):
            raise Problem(
                f"{folder} is a folder that others use too",
                next_step="name one of its own, such as " + str(folder / "teo"),
                exit_code=2,
            )
        folder.chmod(mode & ~_OTHERS)
    except OSError as error:
        raise Problem(
            f"{folder} cannot be closed to other users: {error}",
            next_step=f"make it yours: sudo install -d -m 0700 -o $(id -un) {folder}",
            exit_code=2,
        ) from error


def private_file(path: Path) -> None:
    """Close a file to other users, if it is there and its user's own."""
    for each in (path, *path.parent.glob(f"{path.name}-*")):
        try:
            status = each.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            each.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
