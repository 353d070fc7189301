"""What a test is started with: its command, its environment, and all it may not leave.

The control group of the attempt is made here.
"""

import os

from adapters.contract import Attempt, CannotStart
from adapters.local import cgroup, tree
from adapters.local.config import LocalConfig
from adapters.local.guard import Launch
from adapters.local.orphans import mark_for
from adapters.local.owner import Owner
from adapters.local.place import Place

_FILE_SLACK_BYTES = 1 << 20
"""How far beyond its disk limit one file may grow: what is over must be seen to be over."""
_PROCESSES_SLACK = 1024
"""How many processes beyond its limit the kernel lets a test have: so `use.py` sees it is over."""


def launch_of(attempt: Attempt, place: Place, config: LocalConfig, owner: Owner | None) -> Launch:
    """Return what is started. Raises `CannotStart` for what cannot be an argument or variable."""
    _check_texts(attempt)
    cwd = config.directory or place.workspace
    limits = attempt.limits.within(config.limits)
    group = cgroup.make(place, limits)
    confinement = {
        "cgroup": str(group or ""),
        "mark": str(mark_for(place) or ""),
        "keeps_privileges": "yes" if config.keeps_privileges else "",
    }
    if limits.disk_max_bytes is not None:
        confinement["file_bytes_max"] = str(limits.disk_max_bytes + _FILE_SLACK_BYTES)
    if limits.processes_max is not None:
        confinement["processes_max"] = str(_kernel_limit(limits.processes_max, owner))
    if owner is not None:
        confinement |= {
            "uid": str(owner.uid),
            "gid": str(owner.gid),
            "groups": " ".join(map(str, owner.groups)),
        }
    return Launch(
        command=attempt.command,
        env={
            **config.base_env(),
            **_of_owner(owner, place),
            "PWD": str(cwd),
            "TEO_BENCH": attempt.bench.name,
            **attempt.env,
            **place.environment,
        },
        cwd=cwd,
        pidfile=place.pidfile,
        merge_streams=config.merge_streams,
        confinement=confinement,
        limits=limits,
        group=group,
    )


def _kernel_limit(processes_max: int, owner: Owner | None) -> int:
    """Return what the kernel is told, which counts all processes of a user, as a last resort.

    It bounds a test that starts processes faster than `use.py` looks; never one of root.
    """
    uid = os.geteuid() if owner is None else owner.uid
    return tree.tasks_of(uid) + processes_max + _PROCESSES_SLACK


def _of_owner(owner: Owner | None, place: Place) -> dict[str, str]:
    """Return the variables that say who the test is."""
    if owner is None:
        return {}
    home = owner.home or str(place.workspace)
    return {"HOME": home, "USER": owner.name, "LOGNAME": owner.name, "TMPDIR": "/tmp"}  # noqa: S108


def _check_texts(attempt: Attempt) -> None:
    """Raise `CannotStart` for what no operating system takes as an argument or a variable."""
    for text in (*attempt.command, *attempt.env, *attempt.env.values()):
        if "\0" in text or text.encode("utf-8", "ignore").decode() != text:
            raise CannotStart(
                f"cannot start {attempt.command[0]!r}: {text[:100]!r} holds a NUL or half a "
                "character, which no argument or variable can hold"
            )
    if wrong := [name for name in attempt.env if not name or "=" in name]:
        raise CannotStart(f"cannot start {attempt.command[0]!r}: no variable is named {wrong[0]!r}")
