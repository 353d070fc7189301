"""A control group (version 2) for each test, where the worker may make one.

The worker's own group must be delegated to it: then it makes one group below it for each attempt.
What is in there can be killed at once, also by the next life of the worker, and is counted and
limited by the kernel where it gives us the controllers. Without such a group all goes on, with what
`docs/operations.md` says of it.
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from adapters.contract import Limits
from adapters.local.place import Place, read_note

PREFIX = "teo-"
OWN = "teo-worker"
"""Where a worker goes that is alone in its group: a group with groups below it that are limited
may hold no process itself."""
CONTROLLERS = ("memory", "pids")
NOTE = "cgroup"
"""File beside the workspace that says where the group is, for a next life elsewhere."""

log = structlog.get_logger()


def make(place: Place, limits: Limits) -> Path | None:
    """Make the group of an attempt with its limits and note where it is; None: there can be none.

    A limit whose controller is not there is left to `use.py`.
    """
    base = base_group()
    if base is None:
        return None
    group = base / _name(place)
    try:
        group.mkdir()
        _limit(group, limits)
        (place.folder / NOTE).write_text(str(group), encoding="utf-8")
    except OSError as error:
        log.warning("cgroup.not_made", group=str(group), error=str(error))
        remove(group)
        return None
    return group


def groups_of(place: Place) -> list[Path]:
    """Return the groups that the attempt has now: where it was noted, and where it would be."""
    base, name = base_group(), _name(place)
    found = [] if base is None else [base / name]
    with contextlib.suppress(OSError, ValueError):
        noted = Path(os.fsdecode(read_note(place.folder / NOTE)))
        # A test of the same user can write the note: only a group of this attempt is believed.
        if noted.name == name and noted not in found and _is_group(noted):
            found.append(noted)
    return [group for group in found if (group / "cgroup.procs").is_file()]


def members(group: Path) -> list[int]:
    """Return the pids of all processes in a group and in those below it."""
    found: list[int] = []
    for each in _below(group):
        with contextlib.suppress(OSError, ValueError):
            found += map(int, (each / "cgroup.procs").read_text(encoding="ascii").split())
    # 0 is one that this namespace of processes does not show; a signal to it would be one to us.
    return [pid for pid in found if pid > 0]


def remove(group: Path) -> None:
    """Remove an empty group and those the test made below it."""
    for each in reversed(list(_below(group))):
        with contextlib.suppress(OSError):
            each.rmdir()


def count(group: Path, file: str, key: str = "") -> int | None:
    """Return a number the kernel keeps of a group; None: it keeps none such."""
    with contextlib.suppress(OSError, ValueError):
        for line in (group / file).read_text(encoding="ascii").splitlines():
            name, _, value = line.rpartition(" ")
            if name == key:
                return int(value)
    return None


@functools.cache
def base_group() -> Path | None:
    """Return the group below which this worker makes others; None: it may not. Asked once."""
    own = _own_group(Path("/proc/self"))
    if own is None:
        log.info("cgroup.none", why="no control groups of version 2 are mounted here")
        return None
    base = _delegated_parent(own) or own
    probe = base / f"{PREFIX}probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        log.info("cgroup.none", why=f"{base} is not delegated to this worker: {error}")
        return None
    _ask_for_controllers(base)
    return base


def _is_group(folder: Path) -> bool:
    """Return whether a folder is of the kernel's hierarchy, not one that looks like it."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    real = folder.resolve()
    return real == folder and any(real.is_relative_to(point) for _, point in _hierarchies(mounts))


def _hierarchies(mounts: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield (what of it, where) of each mount of the hierarchy of version 2."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("cgroup2 "):
            yield fields[3], Path(fields[4].encode().decode("unicode_escape"))


def _own_group(proc: Path) -> Path | None:
    """Return the folder of the group this process is in."""
    try:
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (proc / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None or ".." in path.split("/"):
        return None
    # Only a mount of the whole hierarchy: then paths in it are what `/proc` says they are.
    found = (point / path.lstrip("/") for what, point in _hierarchies(mounts) if what == "/")
    return next(found, None)


def _delegated_parent(own: Path) -> Path | None:
    """Return the group above, if systemd gave it to us and put us below it (DelegateSubgroup=)."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError, AttributeError):
            if os.getxattr(own.parent, name) == b"1":
                return own.parent
    return None


def _ask_for_controllers(base: Path) -> None:
    """Let groups below `base` be limited; move this process out of the way if it is alone there."""
    try:
        offered = (base / "cgroup.controllers").read_text(encoding="ascii").split()
        wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in offered)
        if not wanted:
            return
        if (base / "cgroup.procs").read_text(encoding="ascii").split() == [str(os.getpid())]:
            (base / OWN).mkdir(exist_ok=True)
            (base / OWN / "cgroup.procs").write_text("0", encoding="ascii")
        (base / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
    except OSError as error:
        log.info("cgroup.no_limits", group=str(base), error=str(error))


def _limit(group: Path, limits: Limits) -> None:
    for file, value in (
        ("memory.max", limits.memory_max_bytes),
        ("memory.swap.max", None if limits.memory_max_bytes is None else 0),
        ("memory.oom.group", None if limits.memory_max_bytes is None else 1),
        ("pids.max", limits.processes_max),
    ):
        if value is not None and (group / file).exists():
            (group / file).write_text(str(value), encoding="ascii")


def _below(group: Path) -> Iterator[Path]:
    """Yield a group and all groups below it, each before those below it."""
    rest = [group]
    while rest:
        each = rest.pop()
        yield each
        with contextlib.suppress(OSError):
            rest += [entry for entry in each.iterdir() if entry.is_dir()]


def _name(place: Place) -> str:
    return f"{PREFIX}{place.digest[:32]}"
