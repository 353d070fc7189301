"""A note of a process means that process for ever, never the next one with its pid."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from adapters.local.tree import started_at
from cli.local.identity import Identity

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when a process started")


@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def of(process: "subprocess.Popen[bytes]") -> Identity:
    own = Identity.own()
    return replace(own, pid=process.pid, started=started_at(process.pid))


def test_a_note_comes_back_as_it_was_written():
    own = Identity.own()
    assert own.pid == os.getpid()
    assert Identity.parse(str(own)) == own
    assert own.is_alive
    bare = Identity(pid=7)
    assert Identity.parse(str(bare)) == bare
    assert Identity.parse("123") == Identity(pid=123), "one of an older version"


@pytest.mark.parametrize("torn", ["", "\0\0\0\0", "-1 2 3", "x 1 -", "0 1 -", "99999999999 1 -"])
def test_a_torn_note_names_nobody(torn):
    assert Identity.parse(torn) is None


@linux
def test_the_process_that_is_meant_is_signalled_once(child):
    meant = of(child)
    assert meant.send(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert not meant.is_alive
    assert not meant.send(signal.SIGTERM)


@linux
@pytest.mark.parametrize(
    "other",
    [
        lambda meant: replace(meant, started=(meant.started or 0) - 1),
        lambda meant: replace(meant, boot="another"),
    ],
    ids=["started at another time", "in another boot"],
)
def test_who_got_the_pid_later_is_left_alone(child, other):
    stranger = other(of(child))
    assert not stranger.is_alive
    assert not stranger.send(signal.SIGKILL)
    assert child.poll() is None
    assert of(child).send(signal.SIGKILL), "the control: by its own note it is reached"
    assert child.wait(10) == -signal.SIGKILL
