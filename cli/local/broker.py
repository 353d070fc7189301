"""One node as a process, and the supervisor that must never let it outlive who started it.

The supervisor is this very file, run as a script (standard library only, so that it starts in
milliseconds). It holds one end of a pipe to who started it; when that closes, whatever the reason,
it stops the JVM. The kernel kills the JVM if the supervisor itself is killed.
"""

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

spawn_s = 10.0
parent_check_s = 1.0
reap_s = 5.0
answer_bytes_max = 1024 * 1024
log_bytes_max = 8 * 1024 * 1024


class JvmProcess:
    """One JVM. Belongs to no event loop: it may be stopped in another than it was started in.

    `hold` is a file descriptor that stays open as long as the JVM may be alive (the folder's lock).
    `home` is the folder it runs in, where it leaves a report if it crashes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        grace_s: float,
        hold: int,
        home: Path | None = None,
    ) -> None:
        rotate(log)
        self.log = log
        self.pid: int | None = None
        with log.open("ab") as complaints:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(grace_s), str(log), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=dict(environ),
                cwd=home,
                pass_fds=[hold],
                start_new_session=True,  # A Ctrl-C in the terminal is for us, not for the broker.
            )
        try:
            self.pid = self._read_pid()
        except BaseException:
            self.destroy()
            raise

    def _read_pid(self) -> int:
        assert self._supervisor.stdout is not None
        with self._supervisor.stdout as answer:
            readable, _, _ = select.select([answer], [], [], spawn_s)
            text = answer.readline() if readable else b""
        if not text:
            raise OSError("the JVM could not be started")
        return int(text)

    @property
    def is_alive(self) -> bool:
        return self._supervisor.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._supervisor.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the JVM itself; does nothing when it has ended."""
        if self.pid is not None and self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def ask_to_stop(self) -> None:
        """Begin a clean stop; the supervisor kills what has not ended after its grace."""
        if self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def destroy(self) -> None:
        """Kill the JVM now; returns when it and its supervisor are gone."""
        self.signal(signal.SIGKILL)
        self.ask_to_stop()
        try:
            # The supervisor ends when it has reaped the JVM, so ports and files are free then.
            self._supervisor.wait(reap_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._supervisor.pid, signal.SIGKILL)
            self._supervisor.wait(reap_s)


def rotate(log: Path) -> None:
    """Put a long log aside, before somebody writes to it."""
    if log.exists() and log.stat().st_size > log_bytes_max:
        log.replace(log.with_suffix(log.suffix + ".1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a broker says of its cluster."""

    cluster_id: str
    controller: int
    brokers: frozenset[int]


def ask_metadata(host: str, port: int, *, timeout_s: float) -> Metadata | None:
    """Ask one broker who is in the cluster; None when it gives no full answer in time.

    The few bytes of Kafka's Metadata request, version 4, are written by hand: production code
    reaches Kafka through the log alone, and this only asks whether it is there.
    """
    request = struct.pack(">hhihi?", 3, 4, 0, -1, 0, False)
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                (size,) = struct.unpack(">i", answer.read(4))
                if not 0 < size <= answer_bytes_max:
                    return None
                return _parse_metadata(answer.read(size))
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _parse_metadata(body: bytes) -> Metadata:
    offset = 8  # The correlation id and the throttle time.

    def number(form: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from(form, body, offset)
        offset += struct.calcsize(form)
        return int(value)

    def text() -> str:
        nonlocal offset
        size = max(0, number(">h"))
        offset += size
        return body[offset - size : offset].decode()

    brokers = set()
    for _ in range(number(">i")):
        brokers.add(number(">i"))
        text()
        number(">i")
        text()
    return Metadata(cluster_id=text(), controller=number(">i"), brokers=frozenset(brokers))


def supervise(grace_s: float, log: str, command: Sequence[str]) -> int:
    """Run the command until it ends, or until stdin closes, the parent dies or a signal comes."""
    parent, myself = os.getppid(), os.getpid()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: None)  # The wake-up pipe tells the loop below.
    with open(log, "ab") as output:  # noqa: PTH123 - keeps pathlib out of the script's start.
        jvm = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _die_with(myself),
        )
    os.write(1, f"{jvm.pid}\n".encode())
    os.close(1)
    deadline: float | None = None
    while jvm.poll() is None:
        if deadline is None:
            ready, _, _ = select.select([0, woken], [], [], parent_check_s)
        else:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([woken], [], [], left)
        asked = os.read(woken, 64) if woken in ready else b""
        is_stop = 0 in ready or os.getppid() != parent or bool(asked.strip(bytes([signal.SIGCHLD])))
        if deadline is None and is_stop:
            deadline = time.monotonic() + grace_s
            jvm.send_signal(signal.SIGTERM)
            jvm.send_signal(signal.SIGCONT)  # A paused JVM could not obey.
        elif deadline is not None and time.monotonic() >= deadline:
            jvm.kill()
            jvm.wait()
    return jvm.returncode if jvm.returncode >= 0 else 128 - jvm.returncode


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the supervisor dies (Linux only)."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    sys.exit(supervise(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
