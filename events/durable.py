"""Files that are whole after a power cut: the old content or the new one, never half or nothing.

A rename alone is not enough: its name may reach the disk before the content does. So the content
is synced first, and the folder that has the name afterwards. Knows nothing of messages; it is here
because all layers but the adapters may use what is here.
"""

import contextlib
import os
import secrets
from pathlib import Path

OWN_MODE = 0o600
SHARED_MODE = 0o644


def write_whole(path: Path, content: str | bytes, *, mode: int = SHARED_MODE) -> None:
    """Replace `path` by a file of this content, in one step; return once it is on the disk.

    It has `mode`, less the umask, from the first byte on. Raises `OSError`, and `path` is then
    what it was.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def replace(draft: Path, path: Path) -> None:
    """Give the closed file `draft` the name `path`; return once both are on the disk."""
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def replace_in(folder: int, draft: str, name: str) -> None:
    """Give the closed file `draft` in the open folder another name there; like `replace`."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make `folder` and what is missing above it; return once their names are on the disk.

    All of them get `mode`, less the umask.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True, mode=mode)
        sync(each.parent)


def sync(path: Path) -> None:
    """Return once the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
