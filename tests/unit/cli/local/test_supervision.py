"""Supervision goes on whatever fails: a start, a note, a log."""

import asyncio
import errno
import fcntl
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.local import BrokerFailed, supervision
from cli.local.supervision import Held, RoleProcess, keep_alive, tail

DEADLINE_S = 10
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Kafka:
    """Dead until it was started often enough."""

    def __init__(self, failures, error):
        self.failures = failures
        self.error = error
        self.starts = 0
        self.is_up = False

    def is_alive(self, node):
        return self.is_up

    async def restart(self, node):
        self.starts += 1
        if self.starts <= self.failures:
            raise self.error
        self.is_up = True


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_WAIT_S", 0.0)


@pytest.mark.parametrize("failures", [0, 3])
@pytest.mark.parametrize("error", [BrokerFailed("no space left"), FULL, KeyError(1)], ids=type)
def test_a_kafka_that_ended_is_started_until_it_is_up(failures, error):
    kafka, notes, is_up = Kafka(failures, error), [], asyncio.Event()

    def note(text):
        notes.append(text)
        if text == "Kafka is up again":
            is_up.set()

    async def scene():
        watch = asyncio.create_task(keep_alive(kafka, note))
        async with asyncio.timeout(DEADLINE_S):
            await is_up.wait()
        watch.cancel()

    asyncio.run(scene())
    assert kafka.starts == failures + 1
    assert notes.count(f"Kafka did not start: {error}") == failures
    assert notes[0].startswith("Kafka ended; starting it again")


class Role:
    """A role whose process is whatever `script` says, and what is told of it."""

    def __init__(self, folder, *, log=None):
        self.notes, self.pids = [], []
        self.log = log or folder / "logs" / "role.log"
        self.lock = (folder / "lock").open("w")
        self.process = RoleProcess(
            "role",
            [],
            log=self.log,
            held=Held(parent_fd=self.lock.fileno(), lock_fd=self.lock.fileno()),
            note=self.notes.append,
            on_pid=lambda _, pid: self.pids.append(pid),
        )

    def runs(self, *command):
        self.process._command = [str(word) for word in command]

    @asynccontextmanager
    async def started(self):
        try:
            await self.process.start()
            async with asyncio.timeout(DEADLINE_S):
                yield self
        finally:
            await self.process.stop()
            self.lock.close()


async def until(fact):
    end_s = time.monotonic() + DEADLINE_S
    while not fact():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.01)


def test_a_role_that_cannot_be_started_for_a_while_comes_back(tmp_path):
    program = tmp_path / "program"

    async def scene():
        role = Role(tmp_path)
        role.runs(sys.executable, "-c", "raise SystemExit(7)")
        async with role.started():
            role.runs(program)  # As when the machine has no memory or no files left for it.
            await until(lambda: len([n for n in role.notes if "did not start" in n]) >= 3)
            program.write_text("#!/bin/sh\nexec sleep 60\n")
            program.chmod(0o755)
            await until(lambda: len(role.pids) == 2)
            assert role.process.exit_code == 7
            assert role.process._process.returncode is None

    asyncio.run(scene())


def test_a_role_whose_log_cannot_be_written_works_without(tmp_path):
    (tmp_path / "logs").touch()

    async def scene():
        role = Role(tmp_path)
        role.runs("sleep", "60")
        async with role.started():
            assert role.pids
            assert [note for note in role.notes if note.startswith("role has no log")]
            assert role.process.tail() == []

    asyncio.run(scene())


def test_a_role_that_ignores_its_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "STOP_S_MAX", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True);"

    async def scene():
        role = Role(tmp_path)
        role.runs(sys.executable, "-c", f"{deaf} time.sleep(60)")
        async with role.started():
            await until(lambda: tail(role.log) == ["1"])
        assert role.process._process.returncode == -9

    asyncio.run(scene())


def test_the_tail_of_a_log_begins_where_it_is_told_to(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"before\nafter\n\xff")
    assert tail(log) == ["before", "after", "\ufffd"]
    assert tail(log, start=7) == ["after", "\ufffd"]
    assert tail(tmp_path / "none") == []


def test_a_role_holds_the_lock_of_the_folder_until_it_ends(tmp_path):
    async def scene():
        role = Role(tmp_path)
        role.runs("sleep", "60")
        fcntl.flock(role.lock, fcntl.LOCK_EX)
        async with role.started():
            role.lock.close()  # As when who started it is killed.
            with (tmp_path / "lock").open() as other:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.kill(role.pids[0], signal.SIGSTOP)
                with pytest.raises(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.kill(role.pids[0], signal.SIGCONT)
                await role.process.stop()
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(scene())


BEGINS = """
import os, sys, time
print("begins", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
from cli.local.handover import take_over
take_over()
print(os.environ["A_SECRET"], os.environ["TEO_PARENT_FD"], flush=True)
time.sleep(60)
"""


def shown_of(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc shows what others are started with")
def test_a_role_is_started_without_what_another_process_must_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "hunter2")
    monkeypatch.setenv("TEO_PARENT_FD", "of another")

    async def scene():
        role = Role(tmp_path)
        role.runs(sys.executable, "-c", BEGINS, tmp_path / "go")
        async with role.started():
            await until(lambda: "begins" in role.log.read_text())
            assert b"PATH=" in shown_of(role.pids[0])
            assert b"hunter2" not in shown_of(role.pids[0])
            (tmp_path / "go").touch()
            await until(lambda: "hunter2" in role.log.read_text())
            said = role.log.read_text().split()[-1]
            assert said == str(role.lock.fileno()), "what is of the role itself stays"

    asyncio.run(scene())


def test_a_role_is_found_where_it_is_installed_not_in_the_folder_we_are_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "main.py").write_text("raise SystemExit('that of somebody else')")

    async def scene():
        role = Role(tmp_path)
        role.runs(sys.executable, "-m", "cli.main", "serve", "--help")
        async with role.started():
            await until(lambda: "role ended with 0; starting it again" in " ".join(role.notes))

    asyncio.run(scene())
