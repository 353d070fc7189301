"""What the kernel tells of the processes of this machine.

It imports only the standard library, and little of it: a guardian starts with it.
"""

from __future__ import annotations

import os

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
    for pid, parent, started, threads, is_dead in _stats():
        if not is_dead:
            yield pid, parent, started, threads


def children() -> list[int]:
    """Return the children of this process, also those that are dead and not waited for.

    Those it adopted as a subreaper are its main thread's. Whoever started one and is not waited for
    is in here, and if it is dead, all it started is: so where nothing is, nothing is left, however
    short its processes live. Nothing comes off Linux.
    """
    mine = os.getpid()
    try:
        with open(f"/proc/self/task/{mine}/children", "rb") as file:  # noqa: PTH123 - as above.
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return [pid for pid, parent, *_ in _stats() if parent == mine]


def newest() -> int:
    """Return the pid that was given away last, by anybody; 0: nobody tells."""
    try:
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - as above.
            return int(file.read().split()[4])
    except (OSError, IndexError, ValueError):
        return 0


def started_at(pid: int) -> int | None:
    """Return when a live process started, in clock ticks since boot; None: there is none."""
    stat = _stat(pid)
    return None if stat is None or stat[3] else stat[1]


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


def _stats() -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield the pid of each process, and what `_stat` says of it."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib would double the start time.
    except OSError:
        return
    for name in names:
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            yield int(name), *stat


def _stat(pid: int) -> tuple[int, int, int, bool] | None:
    """Return (parent, start, threads, whether it is dead and not waited for)."""
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
    return int(fields[1]), int(fields[19]), threads, is_dead
