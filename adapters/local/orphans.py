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
from collections.abc import Iterable, Iterator
from pathlib import Path

from adapters.contract import AdapterError
from adapters.local import cgroup, confine, guardian, tree
from adapters.local.owner import UIDS
from adapters.local.place import Place, read_note

END_S_MAX = 5.0
"""How long processes may take to die of SIGKILL."""
POLL_S = 0.02
BEGUN_S = 0.05
"""How long a look lasts at the processes that begin."""


def end_orphans(place: Place, *, of_another_life: bool = False) -> int:
    """End all processes of the attempt; return how many there were. Blocks up to `END_S_MAX`.

    Those of another life of the worker are not adopted by this one, so they are also looked for as
    they begin. Raises `AdapterError` if one does not die.
    """
    _end_guardian(place.pidfile)
    seen: set[int] = set()
    give_up_at = time.monotonic() + END_S_MAX
    groups = cgroup.groups_of(place)
    while left := {
        *_end_adopted(),
        *(_end_begun(mark_for(place)) if of_another_life else ()),
        *_killed(place, groups),
    }:
        if time.monotonic() >= give_up_at:
            raise _unkillable(sorted(left), f"processes {sorted(left)} of attempt {place.name}")
        seen.update(left)
        for group in groups:
            tree.kill_group_of(str(group))
        time.sleep(POLL_S)
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
    if (place and place[0] != os.fsencode(pidfile)) or not _is_guardian(pid):
        return
    kill_at = time.monotonic() + 2 * guardian.ORPHAN_GRACE_S + guardian.LEFTOVER_GRACE_S
    told = False
    while started and tree.started_at(pid) == started:
        if not told:
            tree.send([pid], signal.SIGTERM)
            told = True
        elif time.monotonic() >= kill_at:
            below = tree.descendants(pid)
            tree.send([pid, *below], signal.SIGKILL)
        if time.monotonic() >= kill_at + END_S_MAX:
            raise _unkillable([pid], f"guardian {pid}")
        time.sleep(POLL_S)


def _is_guardian(pid: int) -> bool:
    """Return whether a process is one of our guardians, and no stranger.

    A test of the same user can write any number into the file, and all below it would be killed:
    below the first process is the whole machine.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return pid > 1 and guardian.START.encode() in words


def _unkillable(pids: list[int], what: str) -> AdapterError:
    return AdapterError(
        f"{what} {'does' if len(pids) == 1 else 'do'} not die of SIGKILL; "
        "look for state D on the worker's machine",
        code="unkillable",
        retriable=False,
    )


def _killed(place: Place, groups: Iterable[Path]) -> Iterator[int]:
    """Yield the processes of the attempt, each sent SIGKILL as it is found.

    One that only lives to start the next would be gone at the end of the look.
    """
    for pid in _processes_of(place, groups):
        tree.send([pid], signal.SIGKILL)
        yield pid


def _processes_of(place: Place, groups: Iterable[Path]) -> Iterator[int]:
    mine = os.getpid()
    mark = mark_for(place)
    variables = {f"{name}={value}".encode() for name, value in place.environment.items()}
    folder, uid = str(place.folder), _own_user(place)
    members = {pid for group in groups for pid in cgroup.members(group)} - {mine}
    yield from members
    for pid, parent, _, _ in tree.processes():
        if pid not in {mine, *members} and (
            _is_marked(pid, mark, is_child=parent == mine)
            or (uid is not None and tree.user_of(pid) == uid)
            or _has_variables(pid, variables)
            or _works_in(pid, folder)
        ):
            yield pid


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


def _end_begun(mark: int) -> set[int]:
    """End processes of the attempt that begin now, until none has begun for a moment.

    One that only lives to start the next is gone before a look at all processes comes to it.
    """
    found: set[int] = set()
    give_up_at = time.monotonic() + END_S_MAX
    ends_at = time.monotonic() + BEGUN_S
    last = 0
    while time.monotonic() < min(ends_at, give_up_at):
        pid = tree.newest()
        if pid != last and tree.mark_of(pid) == mark:
            tree.send([pid], signal.SIGKILL)
            found.add(pid)
            ends_at = time.monotonic() + BEGUN_S
        last = pid
    return found


def _end_adopted() -> set[int]:
    """End what tests left that has become our child, as fast as it comes, for a moment.

    Returns those it found. We start no marked process, so nobody else waits for their end.
    """
    ends_at = time.monotonic() + POLL_S
    found: set[int] = set()
    while adopted := [pid for pid in tree.children() if _is_marked(pid, -1, is_child=True)]:
        found.update(adopted)
        tree.send(adopted, signal.SIGKILL)
        for pid in adopted:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() >= ends_at:
            break
    return found


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
