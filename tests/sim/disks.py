"""Disks that are full: what a worker must write down durably is refused, as by a real one."""

from pathlib import Path

from processors.worker import state_dir
from processors.worker.state_dir import StateUnreadable

_write = state_dir._write_durably
FULL: set[Path] = set()
"""State folders whose disk is full now."""


def write_durably(path: Path, text: str) -> None:
    """Stand for the one function by which a worker writes what must outlive it.

    It names no folder: that has another name each time, and a seed happens the same way twice.
    """
    if any(path.is_relative_to(folder) for folder in FULL):
        raise StateUnreadable(f"cannot write {path.name}: No space left on device; free the disk")
    _write(path, text)
