"""Finds and ends processes of an attempt whose worker, and perhaps guardian, are dead.

Only processes that are surely of the attempt are signalled: a guardian is known by pid and start
time, all others by the attempt's variables in their environment or by working in its workspace.
"""

import os
import signal
import time
from pathlib import Path

from adapters.contract import AdapterError
from adapters.local import guardian
from adapters.local.place import Place

END_S_MAX = 5.0
"""How long processes may take to die of SIGKILL."""
POLL_S = 0.02
PIDFILE_BYTES_MAX = 100


def end_orphans(place: Place) -> int:
    """End all processes of the attempt; return how many there were. Blocks up to `END_S_MAX`.

    Raises `AdapterError` if one does not die.
    """
    _end_guardian(place.pidfile)
    seen: set[int] = set()
    give_up_at = time.monotonic() + END_S_MAX
    while left := _processes_of(place):
        if time.monotonic() >= give_up_at:
            raise AdapterError(
                f"processes {left} of attempt {place.name} do not die of SIGKILL; "
                "look for state D on the worker's machine",
                code="unkillable",
                retriable=False,
            )
        seen.update(left)
        guardian.send(left, signal.SIGKILL)
        time.sleep(POLL_S)
    return len(seen)


def _end_guardian(pidfile: Path) -> None:
    """Let a guardian that still lives end its tree; kill both if it does not."""
    try:
        pid, started = (int(word) for word in _read_unblocked(pidfile).split())
    except (OSError, ValueError):
        return  # It never started, or it ended all and said so.
    give_up_at = time.monotonic() + 2 * guardian.ORPHAN_GRACE_S + guardian.LEFTOVER_GRACE_S
    told = False
    while started and guardian.started_at(pid) == started:
        if not told:
            guardian.send([pid], signal.SIGTERM)
            told = True
        elif time.monotonic() >= give_up_at:
            below = guardian.descendants(pid)
            guardian.send([pid, *below], signal.SIGKILL)
        time.sleep(POLL_S)


def _read_unblocked(pidfile: Path) -> bytes:
    """Return what is in the file; a test may have put a pipe in its place, which would block."""
    fd = os.open(pidfile, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(fd, PIDFILE_BYTES_MAX)
    finally:
        os.close(fd)


def _processes_of(place: Place) -> list[int]:
    marks = {f"{name}={value}".encode() for name, value in place.environment.items()}
    folder = str(place.folder)
    mine = os.getpid()
    return [
        pid
        for pid, _, _ in guardian.processes()
        if pid != mine and (_has_marks(pid, marks) or _works_in(pid, folder))
    ]


def _has_marks(pid: int, marks: set[bytes]) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # Ended, or another user's: then not started by this worker.
    return marks <= set(environment.split(b"\0"))


def _works_in(pid: int, folder: str) -> bool:
    try:
        cwd = str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return False
    return cwd == folder or cwd.startswith(folder + "/")
