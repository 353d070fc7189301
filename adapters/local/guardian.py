"""The process that stands between a worker and a test: it never lets a test outlive its lease.

Run as a script with a bare interpreter, one for each attempt; it imports only the standard library.
It starts the test, and ends the test's whole process tree when the worker says so, when the worker
is dead (its pipe ends), or when the lease is not renewed in time. On Linux it is the subreaper of
the tree, so processes that daemonise stay its children; elsewhere it knows the process group only.

From the worker, on the control pipe: one spec (see `pack`), then lines `renew <instant>` and
`stop <grace seconds>`. Instants are CLOCK_MONOTONIC seconds, the same in every process of the
machine. To the worker, on the status pipe, lines: `refused <errno> <text>` (the command's fault),
`broken <errno> <text>` (the machine's), `started <pid>`, `ended <how> <code or -> <signal or ->`;
the pipe ends when nothing of the test is alive.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
import time

# What only a type checker needs is not imported: it would cost a quarter of the start time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NoReturn

ORPHAN_GRACE_S = 0.5
"""How long a test may clean up when its worker is gone or its lease ends."""
LEFTOVER_GRACE_S = 0.3
"""How long what a test left behind may clean up after the test's own end."""
LOOK_S_MAX = 60.0
"""Longest wait without a look at the clock."""
SWEEP_S = 0.02
"""Pause between two looks at a tree that is being killed."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_READ_BYTES = 65536
_HAS_PROC = os.path.isdir("/proc/self")  # noqa: PTH112 - pathlib would double the start time.
# What a machine that runs out of something says; all else that keeps a command from starting is
# the command's own fault.
_MACHINE_FAULTS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENFILE})
_FIELD_END = b"\0"


# -- What both sides use ---------------------------------------------------------------------------


def pack(
    *, pidfile: str, cwd: str, until: float, command: Sequence[str], env: Mapping[str, str]
) -> bytes:
    """Return a spec: its length in bytes as a decimal line, then fields that each end in NUL."""
    head = [pidfile, cwd, repr(until), str(len(command)), *command]
    fields = [*head, *(f"{name}={value}" for name, value in env.items())]
    body = b"".join(os.fsencode(text) + _FIELD_END for text in fields)
    return b"%d\n%s" % (len(body), body)


def processes() -> Iterator[tuple[int, int, int]]:
    """Yield (pid, parent, start in clock ticks since boot) of each process; nothing off Linux.

    Zombies are left out: they run no code.
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
    for pid, parent, _ in processes():
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


def _stat(pid: int) -> tuple[int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above.
            text = file.read()
    except OSError:
        return None
    # The name of the program stands in parentheses and may itself hold some.
    fields = text[text.rindex(b")") + 2 :].split()
    # A zombie with more than one thread is a program whose first thread ended: it still runs.
    is_dead = fields[0] in {b"Z", b"X"} and int(fields[17]) <= 1
    return None if is_dead else (int(fields[1]), int(fields[19]))


# -- The guardian ----------------------------------------------------------------------------------


class _Guardian:
    """Watches one test. Its clock goes on while the machine sleeps, as the scheduler's does."""

    def __init__(self, control: int, status: int) -> None:
        self._control = control
        self._status = status
        self._inbox = b""
        self._child = 0
        self._ending = False
        self._how = "exited"
        self._lease_end = 0.0
        self._kill_at: float | None = None

    def main(self, stdout: int, stderr: int) -> None:
        pidfile, cwd, until, command, env = self._spec()
        self._renew(float(until))
        wake = _wake_on_signals()
        _become_subreaper()
        _write_pidfile(pidfile)
        self._child = self._start(cwd, command, env, stdout, stderr)
        for fd in {stdout, stderr}:
            os.close(fd)
        if self._child:
            self._say(f"started {self._child}")
            code = self._watch(wake)
            number = os.WTERMSIG(code) if os.WIFSIGNALED(code) else "-"
            value = os.WEXITSTATUS(code) if os.WIFEXITED(code) else "-"
            self._say(f"ended {self._how} {value} {number}")
            self._end_tree()
        os.unlink(pidfile)  # noqa: PTH108

    def _spec(self) -> tuple[str, str, str, list[str], dict[str, str]]:
        size = -1
        while size < 0 or len(self._inbox) < size:
            chunk = os.read(self._control, _READ_BYTES)
            if not chunk:
                sys.exit(0)  # The worker died before it asked for anything.
            self._inbox += chunk
            if size < 0 and b"\n" in self._inbox:
                head, _, self._inbox = self._inbox.partition(b"\n")
                size = int(head)
        body, self._inbox = self._inbox[:size], self._inbox[size:]
        fields = [os.fsdecode(field) for field in body.split(_FIELD_END)[:-1]]
        pidfile, cwd, until, count = fields[:4]
        last = 4 + int(count)
        env = dict(text.split("=", 1) for text in fields[last:])
        return pidfile, cwd, until, fields[4:last], env

    def _start(
        self, cwd: str, command: list[str], env: dict[str, str], stdout: int, stderr: int
    ) -> int:
        """Return the pid of the test, or 0 if it could not be started, which is then reported."""
        told, tell = os.pipe()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._say(f"broken {error.errno} fork: {error.strerror}")
            return 0
        if pid == 0:
            _become_test(parent, tell, cwd, command, env, stdout, stderr)
        os.close(tell)
        why = b"".join(iter(lambda: os.read(told, _READ_BYTES), b""))
        os.close(told)
        if not why:
            return pid
        os.waitpid(pid, 0)
        self._say(os.fsdecode(why))
        return 0

    def _watch(self, wake: int) -> int:
        """Return the wait status of the test's main process once it has ended."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(wake, select.POLLIN)
        self._obey(b"")  # What came together with the spec.
        while (status := self._reap()) is None:
            now = _now()
            if self._kill_at is not None and now >= min(self._kill_at, self._lease_end):
                kill_tree(os.getpid())
                if not _HAS_PROC:
                    _kill_group(self._child)
                pause_s = SWEEP_S
            elif now >= self._lease_end - ORPHAN_GRACE_S and self._how != "lease":
                self._stop("lease", ORPHAN_GRACE_S)
                continue
            else:
                pause_s = self._next_deadline() - now
            for fd, _ in poller.poll(max(1.0, min(pause_s, LOOK_S_MAX) * 1000)):
                if fd == wake:
                    self._take_signals(wake)
                elif not self._take_control():
                    poller.unregister(self._control)
        return status

    def _next_deadline(self) -> float:
        lease = self._lease_end - (0.0 if self._how == "lease" else ORPHAN_GRACE_S)
        return lease if self._kill_at is None else min(lease, self._kill_at)

    def _take_signals(self, wake: int) -> None:
        if set(os.read(wake, 512)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._stop("orphaned", ORPHAN_GRACE_S)

    def _take_control(self) -> bool:
        chunk = os.read(self._control, _READ_BYTES)
        self._obey(chunk)
        if not chunk:
            self._stop("orphaned", ORPHAN_GRACE_S)
        return bool(chunk)

    def _obey(self, chunk: bytes) -> None:
        *lines, self._inbox = (self._inbox + chunk).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"renew":
                self._renew(float(value))
            elif word == b"stop":
                self._stop("stopped", float(value))

    def _renew(self, until: float) -> None:
        # What the worker's clock says is left, from now on a clock that does not stop in sleep.
        self._lease_end = max(self._lease_end, _now() + until - time.monotonic())

    def _stop(self, how: str, grace_s: float) -> None:
        kill_at = _now() + grace_s
        if self._kill_at is None:
            self._how = how
            for number in (signal.SIGTERM, signal.SIGCONT):
                send([self._child, *descendants(os.getpid())], number)
        elif how == "lease":
            self._how = how
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _reap(self) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid == self._child:
                return status

    def _end_tree(self) -> None:
        """Return when no process of the test is left, however long the kernel takes."""
        if not _HAS_PROC:
            _kill_group(self._child)
            return
        left = descendants(os.getpid())
        send(left, signal.SIGTERM)
        send(left, signal.SIGCONT)
        kill_at = min(_now() + LEFTOVER_GRACE_S, self._lease_end)
        while left:
            if _now() >= kill_at:
                kill_tree(os.getpid())
            time.sleep(SWEEP_S)
            self._reap()
            left = descendants(os.getpid())

    def _say(self, text: str) -> None:
        try:  # noqa: SIM105 - contextlib would add to the start time.
            os.write(self._status, os.fsencode(text) + b"\n")
        except BrokenPipeError:
            pass  # The worker is dead; what there is to do does not depend on it.


def _now() -> float:
    boottime = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boottime)


def _become_test(
    parent: int,
    tell: int,
    cwd: str,
    command: list[str],
    env: dict[str, str],
    stdout: int,
    stderr: int,
) -> NoReturn:
    """Turn the forked child into the test; never returns."""
    word = "broken"
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.chdir(cwd)
        # The interpreter ignores these; a test expects the defaults.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        word = "refused"
        os.execvpe(command[0], command, env)  # noqa: S606
    except OSError as error:
        if error.errno in _MACHINE_FAULTS:
            word = "broken"
        os.write(tell, os.fsencode(f"{word} {error.errno} {error.strerror}"))
    finally:
        os._exit(125)


def _wake_on_signals() -> int:
    """Return a descriptor from which the numbers of arriving signals can be read."""
    wake, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return wake


def _become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _PRCTL is not None:
        _PRCTL(option, value, 0, 0, 0)


_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def _write_pidfile(path: str) -> None:
    """Say who guards, in one step: whoever reads it later must never see half of it."""
    draft = f"{path}.new"
    with open(draft, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(f"{os.getpid()} {started_at(os.getpid()) or 0}\n")
    os.rename(draft, path)  # noqa: PTH104


def _kill_group(leader: int) -> None:
    try:  # noqa: SIM105 - as above.
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def main() -> None:
    """Guard one test; the arguments are four inherited descriptors."""
    control, status, stdout, stderr = (int(text) for text in sys.argv[1:5])
    for fd in (control, status, stdout, stderr):
        os.set_inheritable(fd, False)
    _Guardian(control, status).main(stdout, stderr)
    os._exit(0)  # Nothing is left to tidy up, and the worker waits.


if __name__ == "__main__":
    main()
