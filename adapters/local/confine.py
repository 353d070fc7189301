"""What a test is started with, and what a process does to be safe from the tests beside it.

It imports only the standard library, and little of it: a guardian starts with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys

# What only a type checker needs is not imported: it would cost a quarter of a guardian's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from adapters.local import tree
elif "." in __name__:
    from adapters.local import tree
else:
    import tree  # A guardian: a bare interpreter whose only folder of ours is this one.

TEST_UMASK = 0o022
"""A worker makes its own files for itself alone; a test finds what people are used to."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAP_SYS_PTRACE = 19
_CLONE_INTO_CGROUP = 0x200000000
_SYS_CLONE3 = 435
# What a machine that runs out of something says; all else that keeps a command from starting is
# the command's own fault.
_MACHINE_FAULTS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENFILE})


def hide() -> None:
    """Close this process to others of its own user, who are no root: they can signal it, no more.

    Its environment, memory and open files cannot be read through `/proc` then, nor can a debugger
    be put on it, and it leaves no core file. An exec undoes it.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Make this process the parent of each descendant whose own parents are dead."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def own_mark_limit() -> int:
    """Return the highest mark that a child of this process can get."""
    if sys.platform != "linux":
        return 0
    hard = resource.getrlimit(tree.MARK_LIMIT)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def fork_into(cgroup: str) -> int:
    """Fork; the child begins its life in the control group, if one is named. For one thread only.

    A process that is moved into a group waits for every processor of the machine (10 ms); one that
    is born in it does not (clone3, Linux 5.7). Where that is refused the child is moved.
    """
    if not cgroup:
        return os.fork()
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        pid = _clone_into(folder)
        if pid < 0:
            pid = os.fork()
            if pid == 0:
                _enter_group(cgroup)
        return pid
    finally:
        os.close(folder)


def _clone_into(folder: int) -> int:
    arguments = (ctypes.c_uint64 * 11)()
    arguments[0], arguments[4], arguments[10] = _CLONE_INTO_CGROUP, signal.SIGCHLD, folder
    # The interpreter's lock stays held: this process has no other thread to give it to.
    syscall = ctypes.PyDLL(None).syscall
    syscall.restype = ctypes.c_long
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    return int(syscall(_SYS_CLONE3, ctypes.byref(arguments), size))


def become_test(
    parent: int,
    tell: int,
    settings: Mapping[str, str],
    command: list[str],
    env: Mapping[str, str],
    streams: tuple[int, int],
) -> NoReturn:
    """Turn the forked child of a guardian into the test; never returns.

    What needs rights of the worker comes first, then they are given up. The order matters: a change
    of user clears the signal for the parent's death, and a test must not run without it.
    """
    word = "broken"
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(streams[0], 1)
        os.dup2(streams[1], 2)
        os.umask(TEST_UMASK)
        _set_limits(settings)
        _give_up_rights(settings)
        os.chdir(settings["cwd"])
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)
        # The interpreter ignores these; a test expects the defaults.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        word = "refused"
        os.execvpe(command[0], command, env)  # noqa: S606
    except OSError as error:
        if error.errno in _MACHINE_FAULTS:
            word = "broken"
        os.write(tell, os.fsencode(f"{word} {error.errno} {error.strerror}"))
    except Exception as error:  # noqa: BLE001 - else the test would seem to have failed.
        os.write(tell, os.fsencode(f"broken {errno.EINVAL} {error!r}"))
    finally:
        os._exit(125)


def _enter_group(cgroup: str) -> None:
    """Move this process; one that cannot goes on outside, where its guardian finds it too."""
    try:
        with open(f"{cgroup}/cgroup.procs", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"0")
    except OSError:
        return


def _set_limits(settings: Mapping[str, str]) -> None:
    """Set the mark, and the limits that the kernel can keep for one process or one user."""
    for name, number in (
        ("mark", tree.MARK_LIMIT),
        ("file_bytes_max", resource.RLIMIT_FSIZE),
        ("processes_max", resource.RLIMIT_NPROC),
    ):
        if settings[name]:
            value = int(settings[name])
            hard = resource.getrlimit(number)[1]
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.setrlimit(number, (value, value))


def _give_up_rights(settings: Mapping[str, str]) -> None:
    if not settings["keeps_privileges"]:
        # Of a root: not to look into its guardian and its worker. Nobody else has it to lose.
        _prctl(_PR_CAPBSET_DROP, _CAP_SYS_PTRACE)
    if settings["uid"]:
        # `execvpe` imports it, and another user may not be able to read where the library is.
        import warnings  # noqa: F401

        uid, gid = int(settings["uid"]), int(settings["gid"])
        groups = [int(text) for text in settings["groups"].split()]
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if not settings["keeps_privileges"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _PRCTL is not None and sys.platform == "linux":
        _PRCTL(option, value, 0, 0, 0)


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)
