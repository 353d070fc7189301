"""The supervisor: what it runs ends with who started it. Plain processes stand in for the JVM."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.local.broker import JvmProcess, Metadata, ask_metadata, log_bytes_max

deadline_s = 10.0
stubborn = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + deadline_s
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        pause.wait(0.01)


def is_gone(pid: int) -> bool:
    """Also a process that nobody has reaped yet is gone."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1] in {"", "Z"}


@contextmanager
def running(tmp_path: Path, *command: str, grace_s: float = 5.0) -> Iterator[JvmProcess]:
    log = tmp_path / "log"
    with (tmp_path / "lock").open("w") as lock:
        process = JvmProcess(
            command, log=log, environ=os.environ, grace_s=grace_s, hold=lock.fileno()
        )
        try:
            yield process
        finally:
            process.destroy()


def test_output_goes_to_the_log_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, "/bin/sh", "-c", "echo out; echo err >&2; exit 7") as process:
        until(lambda: not process.is_alive, "the end of the command")
        assert process.exit_code == 7
        assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_a_clean_stop_is_a_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, "/bin/sleep", "60") as process:
        assert process.is_alive
        process.ask_to_stop()
        until(lambda: not process.is_alive, "the end after SIGTERM")
        assert process.exit_code == 128 + signal.SIGTERM


def test_what_does_not_stop_is_killed_after_the_grace(tmp_path: Path) -> None:
    with running(tmp_path, sys.executable, "-c", stubborn, grace_s=0.2) as process:
        until(lambda: "deaf" in (tmp_path / "log").read_text(), "the child to be deaf")
        process.ask_to_stop()
        until(lambda: not process.is_alive, "the kill after the grace")
        assert process.exit_code == 128 + signal.SIGKILL


def test_a_paused_process_can_be_stopped(tmp_path: Path) -> None:
    with running(tmp_path, "/bin/sleep", "60", grace_s=60.0) as process:
        process.signal(signal.SIGSTOP)
        process.ask_to_stop()
        until(lambda: not process.is_alive, "the end of the paused process")
        assert process.exit_code == 128 + signal.SIGTERM


def test_destroy_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    with running(tmp_path, sys.executable, "-c", stubborn, grace_s=60.0) as process:
        pid = process.pid
        assert pid is not None
        process.destroy()
        assert is_gone(pid)
        process.destroy()
        process.signal(signal.SIGKILL)


def test_a_command_that_cannot_start_is_an_error_with_its_reason_in_the_log(tmp_path: Path) -> None:
    no_java = running(tmp_path, str(tmp_path / "no-java"))
    with pytest.raises(OSError, match="could not be started"), no_java:
        pass
    assert "no-java" in (tmp_path / "log").read_text()


parent_script = """
import os, sys, time
from pathlib import Path
from cli.local.broker import JvmProcess
folder = Path(sys.argv[1])
lock = (folder / "lock").open("w")
process = JvmProcess(
    ["/bin/sleep", "60"], log=folder / "log", environ=os.environ, grace_s=5.0, hold=lock.fileno()
)
print(process.pid, process._supervisor.pid, flush=True)
if len(sys.argv) > 2 and os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@contextmanager
def parent(tmp_path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", parent_script, str(tmp_path), *more]
    root = Path(__file__).parents[4]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def numbers(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def test_kill_9_of_the_parent_ends_it(tmp_path: Path) -> None:
    with parent(tmp_path) as process:
        child, supervisor = numbers(process)
        process.kill()
        until(lambda: is_gone(child) and is_gone(supervisor), "the end of the orphans")


def test_a_fork_of_the_parent_that_keeps_the_pipe_open_does_not_keep_it_alive(
    tmp_path: Path,
) -> None:
    with parent(tmp_path, "fork") as process:
        child, supervisor = numbers(process)
        (fork,) = numbers(process)
        try:
            process.kill()
            until(lambda: is_gone(child) and is_gone(supervisor), "the end of the orphans")
            assert not is_gone(fork)
        finally:
            os.kill(fork, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal is Linux's")
def test_kill_9_of_the_supervisor_ends_it(tmp_path: Path) -> None:
    with parent(tmp_path) as process:
        child, supervisor = numbers(process)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: is_gone(child), "the end with its supervisor")


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (log_bytes_max + 1))
    with running(tmp_path, "/bin/sleep", "60"):
        assert (tmp_path / "log").stat().st_size == 0
        assert (tmp_path / "log.1").stat().st_size == log_bytes_max + 1


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads one request and sends these bytes."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(deadline_s)


def metadata_answer() -> bytes:
    broker = struct.pack(">ih9si", 7, 9, b"127.0.0.1", 9092) + struct.pack(">h", -1)
    body = struct.pack(">iii", 0, 0, 1) + broker + struct.pack(">h3si", 3, b"abc", 7)
    body += struct.pack(">i", 0)
    return struct.pack(">i", len(body)) + body


def test_a_broker_is_asked_for_its_cluster() -> None:
    with answering(metadata_answer()) as port:
        assert ask_metadata("127.0.0.1", port, timeout_s=5.0) == Metadata(
            cluster_id="abc", controller=7, brokers=frozenset({7})
        )


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", metadata_answer()[:30], b"\0\0\0\2ab"]
)
def test_no_answer_of_kafka_is_no_answer(answer: bytes) -> None:
    with answering(answer) as port:
        assert ask_metadata("127.0.0.1", port, timeout_s=5.0) is None


def test_a_closed_port_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask_metadata("127.0.0.1", port, timeout_s=1.0) is None
