"""The process that stands between a worker and a test: it never lets a test outlive its lease.

One for each attempt, a bare interpreter with an empty environment: `guard.py` starts it, and it
imports only the standard library. It starts the test, and ends the test's whole process tree when
the worker says so, when the worker is dead (its pipe ends), or when the lease is not renewed in
time. On Linux it is the subreaper of the tree, so processes that daemonise stay its children, and
kills the test's control group where it has one; elsewhere it knows the process group only. Nobody
but root can look into it: what it knows, and its pipes, are not for the test.

From the worker, on the control pipe: one spec (see `pack`), then lines `renew <instant>` and
`stop <grace seconds>`. Instants are CLOCK_MONOTONIC seconds, the same in every process of the
machine. To the worker, on the status pipe, lines: `refused <errno> <text>` (the command's fault),
`broken <errno> <text>` (the machine's), `started <pid>`, `ended <how> <code or -> <signal or ->`;
the pipe ends when nothing of the test is alive.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

# What only a type checker needs is not imported: it would cost a quarter of the start time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapters.local import confine, tree
elif "." in __name__:
    from adapters.local import confine, tree
else:
    import confine  # A guardian: a bare interpreter whose only folder of ours is this one.
    import tree

# Imported, not run as a script: then its compiled form is used. It finds its two neighbours in
# their folder, and nothing else of ours.
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import guardian; guardian.main()"
"""What the interpreter runs, and by which a guardian is known."""
ORPHAN_GRACE_S = 0.5
"""How long a test may clean up when its worker is gone or its lease ends."""
LEFTOVER_GRACE_S = 0.3
"""How long what a test left behind may clean up after the test's own end."""
LOOK_S_MAX = 60.0
"""Longest wait without a look at the clock."""
SWEEP_S = 0.02
"""Pause between two looks at a tree that is being killed."""
SETTINGS = (
    "pidfile",
    "cwd",
    "until",
    "cgroup",
    "mark",
    "file_bytes_max",
    "processes_max",
    "uid",
    "gid",
    "groups",
    "keeps_privileges",
)
"""What a spec says beside the command and its environment; an empty text: nothing of the kind."""

_READ_BYTES = 65536
_HAS_PROC = os.path.isdir("/proc/self")  # noqa: PTH112 - pathlib would double the start time.
_FIELD_END = b"\0"


def pack(settings: Mapping[str, str], command: Sequence[str], env: Mapping[str, str]) -> bytes:
    """Return a spec: its length in bytes as a decimal line, then fields that each end in NUL."""
    head = [settings.get(name, "") for name in SETTINGS]
    fields = [*head, str(len(command)), *command]
    fields += [f"{name}={value}" for name, value in env.items()]
    body = b"".join(os.fsencode(text) + _FIELD_END for text in fields)
    return b"%d\n%s" % (len(body), body)


class _Guardian:
    """Watches one test. Its clock goes on while the machine sleeps, as the scheduler's does."""

    def __init__(self, control: int, status: int) -> None:
        self._control = control
        self._status = status
        self._inbox = b""
        self._child = 0
        self._status_of_child: int | None = None
        self._cgroup = ""
        self._how = "exited"
        self._lease_end = 0.0
        self._kill_at: float | None = None

    def main(self, stdout: int, stderr: int) -> None:
        settings, command, env = self._spec()
        self._cgroup = settings["cgroup"]
        self._renew(float(settings["until"]))
        wake = _wake_on_signals()
        confine.adopt_orphans()
        _write_pidfile(settings["pidfile"])
        self._child = self._start(settings, command, env, (stdout, stderr))
        for fd in {stdout, stderr}:
            os.close(fd)
        if self._child:
            self._say(f"started {self._child}")
            code = self._watch(wake)
            number = os.WTERMSIG(code) if os.WIFSIGNALED(code) else "-"
            value = os.WEXITSTATUS(code) if os.WIFEXITED(code) else "-"
            self._say(f"ended {self._how} {value} {number}")
            self._end_tree()
        _unlink(settings["pidfile"])

    def _spec(self) -> tuple[dict[str, str], list[str], dict[str, str]]:
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
        settings = dict(zip(SETTINGS, fields, strict=False))
        first = len(SETTINGS) + 1
        last = first + int(fields[first - 1])
        env = dict(text.split("=", 1) for text in fields[last:])
        return settings, fields[first:last], env

    def _start(
        self,
        settings: dict[str, str],
        command: list[str],
        env: dict[str, str],
        streams: tuple[int, int],
    ) -> int:
        """Return the pid of the test, or 0 if it could not be started, which is then reported."""
        told, tell = os.pipe()
        parent = os.getpid()
        try:
            pid = confine.fork_into(self._cgroup)
        except OSError as error:
            self._say(f"broken {error.errno} fork: {error.strerror}")
            return 0
        if pid == 0:
            confine.become_test(parent, tell, settings, command, env, streams)
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
                self._kill_all()
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
                tree.send([self._child, *tree.descendants(os.getpid())], number)
        elif how == "lease":
            self._how = how
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _reap(self) -> int | None:
        """Wait for all that is dead; return the status of the test's main process, once it is."""
        self._has_children()
        return self._status_of_child

    def _has_children(self) -> bool:
        """Wait for all that is dead, and return whether anything of the test is left.

        The kernel answers that at one moment, and knows also of processes that only live to start
        the next. What is dead and not waited for would be left to the worker.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._status_of_child = status

    def _end_tree(self) -> None:
        """Return when no process of the test is left, however long the kernel takes."""
        if not _HAS_PROC:
            _kill_group(self._child)
            return
        if not self._has_children():
            return
        left = tree.descendants(os.getpid())
        tree.send(left, signal.SIGTERM)
        tree.send(left, signal.SIGCONT)
        kill_at = min(_now() + LEFTOVER_GRACE_S, self._lease_end)
        while self._has_children():
            if _now() >= kill_at:
                self._kill_all()
            time.sleep(SWEEP_S)

    def _kill_all(self) -> None:
        """Kill what there is, and for a moment what comes of it, as fast as it comes.

        What is below our children becomes our child as they die.
        """
        if self._cgroup:
            tree.kill_group_of(self._cgroup)
        if not _HAS_PROC:
            _kill_group(self._child)
            return
        ends_at = _now() + SWEEP_S
        while self._has_children() and _now() < ends_at:
            tree.send(tree.children(), signal.SIGKILL)

    def _say(self, text: str) -> None:
        try:  # noqa: SIM105 - contextlib would add to the start time.
            os.write(self._status, os.fsencode(text) + b"\n")
        except BrokenPipeError:
            pass  # The worker is dead; what there is to do does not depend on it.


def _now() -> float:
    boottime = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boottime)


def _wake_on_signals() -> int:
    """Return a descriptor from which the numbers of arriving signals can be read."""
    wake, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return wake


def _write_pidfile(path: str) -> None:
    """Say who guards, and where, in one step: whoever reads it must never see half of it."""
    draft = f"{path}.new"
    with open(draft, "wb") as file:  # noqa: PTH123
        file.write(b"%d %d " % (os.getpid(), tree.started_at(os.getpid()) or 0) + os.fsencode(path))
    os.rename(draft, path)  # noqa: PTH104


def _kill_group(leader: int) -> None:
    try:  # noqa: SIM105 - as above.
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _unlink(path: str) -> None:
    try:  # noqa: SIM105 - as above.
        os.unlink(path)  # noqa: PTH108
    except OSError:
        pass  # The test, which is of the same user, removed it.


def main() -> None:
    """Guard one test; the arguments are four inherited descriptors."""
    confine.hide()
    control, status, stdout, stderr = (int(text) for text in sys.argv[1:5])
    for fd in (control, status, stdout, stderr):
        os.set_inheritable(fd, False)
    _Guardian(control, status).main(stdout, stderr)
    os._exit(0)  # Nothing is left to tidy up, and the worker waits.
