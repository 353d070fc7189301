"""The worker's side of a guardian: starts a test under guard, and hears how it ended.

Never blocks the loop, and never leaves a guardian that is not waited for.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.contract import NO_LIMITS, AdapterError, CannotStart, Ended, Exit, Lease, Limits
from adapters.local import confine, guardian, tree

STOP_MARGIN_S = 5.0
"""How long after its grace a stopped test may take to be dead before the guardian is given up."""
REAP_POLL_S = 0.002
_READ_BYTES = 65536
_PIPE_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031

_FOLDER = str(Path(guardian.__file__).parent)
# Where the interpreter's own libraries are may be told by this alone; the test gets it too.
_LOADER_ENV = "LD_LIBRARY_PATH"
_MACHINE_IS_OUT = frozenset(
    {errno.EAGAIN, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
)
"""Why no process can be started, whatever it is: not the bench's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started, and where the guardian says that it guards."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    pidfile: Path
    merge_streams: bool = False
    confinement: Mapping[str, str] = field(default_factory=dict)
    """What the test may not leave: those of `guardian.SETTINGS` that are not told above."""
    limits: Limits = NO_LIMITS
    group: Path | None = None
    """The control group it is in; None: it has none."""


class Guard:
    """A running guardian and its pipes. `end` must be awaited, however the test went."""

    def __init__(self, launch: Launch, lease: Lease) -> None:
        self._launch = launch
        self._report = b""
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._cause: Ended | None = None
        self._killed_for: Ended | None = None
        self._detail = ""
        confine.adopt_orphans()  # What a test leaves that kills its guardian becomes our child.
        pipes = _Pipes.open(merge_streams=launch.merge_streams)
        try:
            self._process = _spawn(pipes.theirs)
        except OSError as error:
            pipes.close(pipes.ours)
            raise AdapterError(
                f"cannot start a guardian on this machine: {error}",
                code="no_guardian",
                fault="worker",
            ) from error
        finally:
            pipes.close(pipes.theirs)
        self._control, self._status, self.stdout, self.stderr = pipes.ours
        self._loop.add_reader(self._status, self._on_status)
        settings = {
            **launch.confinement,
            "pidfile": str(launch.pidfile),
            "cwd": str(launch.cwd),
            "until": repr(lease.until),
        }
        self._unsent = guardian.pack(settings, launch.command, launch.env)
        self._unwatch = lease.watch(self._renew)

    async def open(self) -> None:
        """Hand the guardian what to start. A long one may not fit into the pipe at once."""
        while self._unsent:
            try:
                self._unsent = self._unsent[os.write(self._control, self._unsent) :]
            except BlockingIOError:
                await asyncio.sleep(REAP_POLL_S)
            except BrokenPipeError:
                return  # `exit` says what the guardian said before it went.

    def stop(self, grace_s: float, *, cause: Ended | None = None, detail: str = "") -> None:
        """Ask for SIGTERM now and SIGKILL after `grace_s`; `cause` is what `exit` will say."""
        if self._cause is None:
            self._cause, self._detail = cause, detail
        self._tell(f"stop {grace_s}")

    @property
    def pid(self) -> int:
        """Of the guardian: the test is all that is below it."""
        return self._process.pid

    @property
    def gone(self) -> asyncio.Event:
        """Set once the guardian has ended: then nothing of the test is alive."""
        return self._gone

    async def was_killed(self) -> bool:
        """Return whether the guardian, once gone, had not come to its own end.

        Its parent hears that from the kernel, so no test can say otherwise.
        """
        give_up_at = self._loop.time() + STOP_MARGIN_S
        while (code := self._process.poll()) is None:
            if self._loop.time() >= give_up_at:
                return True
            await asyncio.sleep(REAP_POLL_S)
        return code != 0

    def exit(self) -> Exit:
        """Say how the test ended. Raises `CannotStart`, or `AdapterError` if nobody knows."""
        for line in os.fsdecode(self._report).splitlines():
            word, _, rest = line.partition(" ")
            if word == "ended":
                return self._ended(*rest.split(" "))
            if word == "refused":
                raise CannotStart(self._why_refused(rest))
            if word == "broken":
                number, _, text = rest.partition(" ")
                raise AdapterError(
                    f"cannot start a process in {self._launch.cwd}: {text} (errno {number})",
                    code="cannot_spawn",
                    fault="worker" if int(number) in _MACHINE_IS_OUT else "bench",
                )
        if self._killed_for is not None:
            return Exit(ended=self._killed_for, signal=signal.SIGKILL, detail=self._detail)
        raise AdapterError(
            "the guardian of the test was killed; nobody saw how the test ended",
            code="guardian_lost",
            fault="worker",
        )

    def _ended(self, how: str, code: str, number: str) -> Exit:
        if how == "orphaned":
            raise AdapterError(
                "the guardian of the test was told to end by somebody else (SIGTERM)",
                code="stopped_outside",
                fault="worker",
            )
        causes: dict[str, Ended] = {
            "exited": "exited",
            "lease": "lease_expired",
            "stopped": self._cause or "exited",
        }
        ended = causes[how]
        return Exit(
            ended=ended,
            code=None if code == "-" else int(code),
            signal=None if number == "-" else int(number),
            detail=self._detail if ended == self._cause else "",
        )

    async def end(self) -> None:
        """End what still runs, wait for the guardian, give back the pipes.

        Raises `AdapterError` if the test would not die.
        """
        self._unwatch()
        self._close_control()
        try:
            async with asyncio.timeout(guardian.ORPHAN_GRACE_S + STOP_MARGIN_S):
                await self._gone.wait()
        except TimeoutError:
            await asyncio.to_thread(self._kill)
            raise AdapterError(
                f"processes of the test in {self._launch.cwd} did not die of SIGKILL in time; "
                "look for a process in state D on the worker's machine",
                code="unkillable",
                retriable=False,
            ) from None
        finally:
            self._close_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_MARGIN_S):
                    while self._process.poll() is None:  # noqa: ASYNC110 - nothing signals it.
                        await asyncio.sleep(REAP_POLL_S)

    def kill(self, cause: Ended, detail: str = "") -> None:
        """Kill the test's tree and its guardian at once, from outside, and say why in `exit`.

        For a guardian that does not do as it was told: a test of its user may have stopped it.
        """
        if self._killed_for is None:
            self._killed_for, self._detail = cause, detail
        self._kill()

    def _kill(self) -> None:
        # The guardian goes first: killed later, it would be a race with what it starts.
        below = tree.descendants(self._process.pid)
        if self._process.poll() is None:
            self._process.kill()
        tree.send(below, signal.SIGKILL)

    def _renew(self, until: float) -> None:
        self._tell(f"renew {until!r}")

    def _tell(self, line: str) -> None:
        message = line.encode() + b"\n"
        if self._unsent:
            self._unsent += message  # After the spec, which is on its way.
        elif self._control >= 0:
            # A guardian that reads nothing is stopped or dead; `end` deals with its silence.
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._control, message)

    def _on_status(self) -> None:
        chunk = os.read(self._status, _READ_BYTES)
        self._report += chunk
        if not chunk:
            self._loop.remove_reader(self._status)
            self._gone.set()

    def _why_refused(self, rest: str) -> str:
        number, _, text = rest.partition(" ")
        name = self._launch.command[0]
        path = self._launch.cwd / name
        if int(number) == errno.ENOENT and "/" in name and path.exists():
            return f"cannot start {name!r}: the interpreter its first line names does not exist"
        if int(number) == errno.ENOENT and "/" not in name:
            return f"cannot start {name!r}: no such program in PATH; give its path or install it"
        if int(number) == errno.EACCES:
            return (
                f"cannot start {name!r}: not executable (try `chmod +x`, or name its interpreter)"
            )
        if int(number) == errno.ENOEXEC:
            return f"cannot start {name!r}: not a program (a script needs a first line `#!…`)"
        return f"cannot start {name!r}: {text}"

    def _close_control(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _close_all(self) -> None:
        self._close_control()
        if self._status >= 0:
            self._loop.remove_reader(self._status)
        for fd in (self._status, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self._status = self.stdout = self.stderr = -1


def _spawn(fds: Sequence[int]) -> "subprocess.Popen[bytes]":
    # Isolated and without site: it starts in half the time, and nothing of the test's or the
    # worker's environment can change what it runs. Nor has it any of it: the test is its child.
    env = {name: os.environ[name] for name in (_LOADER_ENV,) if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", guardian.START, _FOLDER, *map(str, fds)],
        env=env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=fds,
        start_new_session=True,
    )


@dataclass(frozen=True, slots=True)
class _Pipes:
    """The descriptors of both sides: control, status, stdout, stderr (-1: goes with stdout)."""

    ours: tuple[int, ...]
    theirs: tuple[int, ...]

    @staticmethod
    def open(*, merge_streams: bool) -> "_Pipes":
        made: list[int] = []
        try:
            for _ in range(3 if merge_streams else 4):
                made += os.pipe()
        except OSError as error:
            _Pipes.close(made)
            raise AdapterError(
                f"this worker has no file descriptors left: {error}; raise `ulimit -n`",
                code="no_descriptors",
                fault="worker",
            ) from error
        (control, to_control), (status, to_status), (out, to_out) = zip(
            made[0:6:2], made[1:6:2], strict=True
        )
        err, to_err = (made[6], made[7]) if not merge_streams else (-1, to_out)
        for fd in made:
            os.set_blocking(fd, fd in {control, to_status, to_out, to_err})
        for fd in {to_out, to_err}:
            _widen(fd)
        return _Pipes((to_control, status, out, err), (control, to_status, to_out, to_err))

    @staticmethod
    def close(fds: Iterable[int]) -> None:
        for fd in set(fds) - {-1}:
            os.close(fd)


def _widen(fd: int) -> None:
    """Let a pipe hold more, so that a test that writes fast waits less often."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
