"""Finds and ends processes of an attempt whose guardian is dead, and perhaps its worker too.

Only processes that are surely of a test are signalled. A guardian is known by pid and start time.
All others are known by the control group of the attempt, by the mark its guardian put on them
(`tree.mark_of`), by a user that is their bench's alone, by the attempt's variables in their
environment, or by working in its workspace.
A worker is also the parent of what a test left that killed its own guardian (`adopted`): such a
process is ended whatever became of its mark.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from adapters.contract import AdapterError
from adapters.local import cgroup, confine, guardian, tree
from adapters.local.owner import UIDS
from adapters.local.place import Place, read_note

END_S_MAX = 5.0
"""How long processes may take to die of SIGKILL."""
POLL_S = 0.02


def end_orphans(place: Place) -> int:
    """End all processes of the attempt; return how many there were. Blocks up to `END_S_MAX`.

    Raises `AdapterError` if one does not die.
    """
    _end_guardian(place.pidfile)
    seen: set[int] = set()
    give_up_at = time.monotonic() + END_S_MAX
    groups = cgroup.groups_of(place)
    while left := _processes_of(place, groups):
        if time.monotonic() >= give_up_at:
            raise AdapterError(
                f"processes {left} of attempt {place.name} do not die of SIGKILL; "
                "look for state D on the worker's machine",
                code="unkillable",
                retriable=False,
            )
        seen.update(left)
        for group in groups:
            tree.kill_group_of(str(group))
        tree.send(left, signal.SIGKILL)
        time.sleep(POLL_S)
        _reap(seen)
    for group in groups:
        cgroup.remove(group)
    return len(seen)


def mark_for(place: Place) -> int:
    """Return the mark of all processes of the attempt, the same in each life of its worker."""
    number = int(place.digest[:12], 16)
    highest = confine.own_mark_limit()
    # The first bit keeps it apart from limits that people set; a worker that is itself in a test
    # can only mark with less than its own.
    number |= 1 << 48
    return number if number < highest else 1 + number % max(1, highest - 1)


def _end_guardian(pidfile: Path) -> None:
    """Let a guardian that still lives end its tree; kill both if it does not.

    A note that names another place was copied from there, and so is of somebody else's guardian.
    """
    try:
        first, second, *place = read_note(pidfile).split(b" ", 2)
        pid, started = int(first), int(second)
    except (OSError, ValueError):
        return  # It never started, or it ended all and said so.
    if place and place[0] != os.fsencode(pidfile):
        return
    give_up_at = time.monotonic() + 2 * guardian.ORPHAN_GRACE_S + guardian.LEFTOVER_GRACE_S
    told = False
    while started and tree.started_at(pid) == started:
        if not told:
            tree.send([pid], signal.SIGTERM)
            told = True
        elif time.monotonic() >= give_up_at:
            below = tree.descendants(pid)
            tree.send([pid, *below], signal.SIGKILL)
        time.sleep(POLL_S)


def _processes_of(place: Place, groups: Iterable[Path]) -> list[int]:
    mine = os.getpid()
    mark = mark_for(place)
    variables = {f"{name}={value}".encode() for name, value in place.environment.items()}
    folder, uid = str(place.folder), _own_user(place)
    found = {pid for group in groups for pid in cgroup.members(group)}
    for pid, parent, _, _ in tree.processes():
        if (
            _is_marked(pid, mark, is_child=parent == mine)
            or (uid is not None and tree.user_of(pid) == uid)
            or _has_variables(pid, variables)
            or _works_in(pid, folder)
        ):
            found.add(pid)
    return sorted(found - {mine})


def _is_marked(pid: int, mark: int, *, is_child: bool) -> bool:
    """Return whether a process has the mark, or is a child of ours that has another one.

    We start no marked process: such a child is what a test left whose guardian is dead, and which
    may have lowered its mark.
    """
    number = tree.mark_of(pid)
    return number == mark or (is_child and number is not None and number < confine.own_mark_limit())


def _own_user(place: Place) -> int | None:
    """Return the user that is this bench's alone; None: its tests run as one that others have."""
    try:
        uid = place.workspace.lstat().st_uid
    except OSError:
        return None
    return uid if uid in UIDS else None


def _reap(pids: Iterable[int]) -> None:
    """Take the status of those that have become our children and are dead."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _has_variables(pid: int, variables: set[bytes]) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # Ended, another user's, or one that hides; its mark is for all to read.
    return variables <= set(environment.split(b"\0"))


def _works_in(pid: int, folder: str) -> bool:
    try:
        cwd = str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return False
    return cwd == folder or cwd.startswith(folder + "/")
