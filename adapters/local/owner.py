"""The user a test runs as, where the worker is root: then it cannot touch worker, guardian, others.

`dynamic` is a user of the bench's own, without a name. Its number is claimed in a folder of this
machine, so that no two benches share one, also of other workers, and it is kept: files a test left
in its bench's folder stay its own. A claim of a state folder that is gone is taken over.
"""

import fcntl
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import AdapterError

DYNAMIC = "dynamic"
UIDS = range(60_706, 61_184)
"""Numbers that neither people, packages, containers nor systemd give away (systemd.io/UIDS-GIDS);
below 65,536, which is all that many containers have."""
MACHINE_DIR = Path("/var/lib/teo-benches")
"""Claims, and the workspaces of other users: a worker's own folder is closed to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A user, and what a process of it needs to know."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str
    home: str = ""
    """Empty: it has none, and takes its workspace."""


def owner_of(user: str, bench: str, state_root: Path) -> Owner:
    """Return who the tests of a bench run as. Raises `AdapterError`."""
    if os.geteuid() != 0:
        raise _refused(
            f"config.user of bench {bench} is {user!r}, and a worker that is not root cannot start "
            "a test as another user; run the worker as root, or take the key out"
        )
    if user == DYNAMIC:
        uid = _claim(f"{state_root}\n{bench}\n")
        return Owner(uid=uid, gid=uid, name=f"teo-{uid}")
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise _refused(
            f"config.user of bench {bench}: this machine has no user {user!r}; add it, or write "
            f"{DYNAMIC!r} for one of the bench's own"
        ) from None
    if entry.pw_uid == 0:
        raise _refused(f"config.user of bench {bench} is root, which protects nothing")
    groups = tuple(os.getgrouplist(user, entry.pw_gid))
    return Owner(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, name=user, home=entry.pw_dir)


def check_can_work_in(owner: Owner, folder: Path, bench: str) -> None:
    """Raise `AdapterError` if the user cannot enter a folder of the bench; asks the kernel."""
    done = subprocess.run(
        ["sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        user=owner.uid,
        group=owner.gid,
        extra_groups=list(owner.groups),
        env={"PATH": os.defpath},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise AdapterError(
            f"config.directory of bench {bench} names {folder}, which its user {owner.name} cannot "
            "enter; give that user the right, or name another folder",
            code="directory_closed",
            retriable=False,
        )


def _claim(whose: str) -> int:
    """Return the number of `whose`, claimed now if it has none. One claims at a time."""
    claims = MACHINE_DIR / "uids"
    try:
        claims.mkdir(parents=True, exist_ok=True, mode=0o700)
        MACHINE_DIR.chmod(0o711)
        lock = os.open(claims, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            uid = _claimed(claims, whose)
            (claims / str(uid)).write_text(whose, encoding="utf-8")
            return uid
        finally:
            os.close(lock)
    except OSError as error:
        raise _refused(f"cannot claim a user in {claims}: {error}") from error


def _claimed(claims: Path, whose: str) -> int:
    """Return the number of `whose`, else the first that is nobody's."""
    free = []
    for uid in UIDS:
        try:
            text = (claims / str(uid)).read_text(encoding="utf-8")
        except FileNotFoundError:
            free.append(uid)
            continue
        if text == whose:
            return uid
        if not Path(text.partition("\n")[0]).is_dir():
            free.append(uid)
    if not free:
        raise _refused(f"all {len(UIDS)} users are claimed; remove what is old in {claims}")
    return free[0]


def _refused(message: str) -> AdapterError:
    return AdapterError(message, code="no_user", retriable=False, fault="worker")
