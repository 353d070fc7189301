"""What the kernel tells of the processes of this machine, and how a tree of them is killed.

It imports only the standard library, and little of it: a guardian starts with it.
"""

from __future__ import annotations

import os
import signal

# What only a type checker needs is not imported: it would cost a quarter of a guardian's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK_LIMIT = 10
"""RLIMIT_LOCKS. No kernel since 2.4 looks at it, every child inherits it, anybody may read it."""

_MARK_LINE = b"Max file locks"


def processes() -> Iterator[tuple[int, int, int, int]]:
    """Yield (pid, parent, start in clock ticks since boot, threads) of each process.

    Zombies are left out: they run no code. Nothing comes off Linux.
    """
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib would double the start time.
    except OSError:
        return
    for name in names:
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            yield int(name), *stat


def started_at(pid: int) -> int | None:
    """Return when a live process started, in clock ticks since boot; None: there is none."""
    stat = _stat(pid)
    return None if stat is None else stat[1]


def descendants(root: int) -> list[int]:
    """Return the pids of all live descendants of `root`, without `root`."""
    children: dict[int, list[int]] = {}
    for pid, parent, _, _ in processes():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    rest = [root]
    while rest:
        below = children.pop(rest.pop(), [])
        found.extend(below)
        rest.extend(below)
    return found


def kill_tree(root: int) -> None:
    """Send SIGKILL to all descendants of `root`, and to those they start meanwhile."""
    killed: set[int] = set()
    while fresh := [pid for pid in descendants(root) if pid not in killed]:
        send(fresh, signal.SIGKILL)
        killed.update(fresh)


def send(pids: Sequence[int], number: int) -> None:
    """Signal each of `pids` that still is."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def mark_of(pid: int) -> int | None:
    """Return the number that a process is marked with; None: it has none, or is not there.

    The mark is a hard limit: a process may lower its own and can never take it off, unless it is
    root. Neither another session, nor another environment, nor being undumpable hides it.
    """
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123 - as above.
            text = file.read()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(_MARK_LINE):
            hard = line[len(_MARK_LINE) :].split()[1]
            return int(hard) if hard.isdigit() else None
    return None


def user_of(pid: int) -> int | None:
    """Return the user a process runs as, whether it hides or not; None: there is none."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - as above.
            text = file.read()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def tasks_of(uid: int) -> int:
    """Return how many processes and threads a user has."""
    return sum(threads for pid, _, _, threads in processes() if user_of(pid) == uid)


def kill_group_of(cgroup: str) -> None:
    """Kill all that is in a control group, at once; nothing if there is none."""
    try:
        with open(f"{cgroup}/cgroup.kill", "wb", buffering=0) as file:  # noqa: PTH123 - as above.
            file.write(b"1")
    except OSError:
        return  # Removed, or a kernel before 5.14: the tree is killed process by process.


def _stat(pid: int) -> tuple[int, int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above.
            text = file.read()
    except OSError:
        return None
    # The name of the program stands in parentheses and may itself hold some.
    fields = text[text.rindex(b")") + 2 :].split()
    threads = int(fields[17])
    # A zombie with more than one thread is a program whose first thread ended: it still runs.
    is_dead = fields[0] in {b"Z", b"X"} and threads <= 1
    return None if is_dead else (int(fields[1]), int(fields[19]), threads)
