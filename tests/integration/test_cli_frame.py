"""No verb ends in a traceback, or says by its exit code that tests failed when they did not."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.fake_api import DEADLINE_S, EXE, TOKEN, FakeApi, finished, lines

TREE = Path(__file__).resolve().parents[2]
CODE = "from cli.main import main; main()"


@pytest.fixture
def api():
    fake = FakeApi()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def env(api, tmp_path):
    given = {
        "TEO_SERVER": api.url,
        "TEO_TOKEN": TOKEN,
        "TEO_RECONNECT": "5s",
        "TEO_RETRY": "1s",
        "TEO_CONFIG": str(tmp_path / "config.yaml"),
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    dropped = ("TEO_CONTEXT", "TEO_POOL", "NO_COLOR", "TRACEPARENT", "ALL_PROXY", "HTTP_PROXY")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **given}


def teo(env, *args, redirect="", **changes):
    """Run `teo` in a shell that may close or redirect what it is given."""
    words = [sys.executable, "-c", CODE, *args]
    script = f'exec "$@" {redirect}'
    return subprocess.run(
        [b"sh", b"-c", script.encode(), b"sh", *map(os.fsencode, words)],
        env={**env, **changes},
        cwd=TREE,
        capture_output=True,
        timeout=DEADLINE_S * 3,
        check=False,
    )


def check(done, code, *said):
    err = done.stderr.decode(errors="replace")
    assert done.returncode == code, (done.returncode, err)
    assert "Traceback" not in err
    for text in said:
        assert text in err, err
    return err


@pytest.mark.parametrize(
    "args",
    [
        ("run", "--", "echo", b"\xff"),
        ("run", "--env", b"A=\xff", "--", "true"),
        ("run", "-l", b"a=\xff", "--", "true"),
        ("status", b"exe-\xff"),
        ("cancel", EXE, "--reason", b"\xff"),
        ("reserve", "-l", b"\xff"),
        ("bench", "list", "--pool", b"\xff"),
    ],
)
def test_bytes_that_are_no_text_are_a_mistake_of_usage(env, api, args):
    err = check(teo(env, *args), 2)
    assert err.count("\n") <= 3


@pytest.mark.parametrize("verdict", ["passed", "failed"])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&-"])
def test_a_closed_output_does_not_change_the_verdict(env, api, closed, verdict):
    api.frames = [lines(1, 1, "hello")]
    api.at_end = finished(verdict, "exit_code")
    done = teo(env, "run", "-q", "--", "true", redirect=closed)
    check(done, 0 if verdict == "passed" else 1)
    assert teo(env, "status", redirect=closed).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output_cancels_the_run_and_says_where_its_log_is(env, api):
    api.frames = [lines(1, 1, "hello")]
    api.is_endless = True
    done = teo(env, "run", "--", "sleep", "60", redirect="> /dev/full")
    check(done, 74, EXE, "teo logs", "No space left")
    assert ("DELETE", f"/v1/executions/{EXE}") in [each[:2] for each in api.asked]
    for args in (("status",), ("pool", "list"), ("status", EXE, "-o", "json")):
        check(teo(env, *args, redirect="> /dev/full"), 74, "No space left")


def test_a_proxy_that_cannot_be_used_is_named(env):
    proxy = {"ALL_PROXY": "socks5h://127.0.0.1:9", "TEO_SERVER": "http://teo.lab.example"}
    check(teo(env, "status", **proxy), 2, "ALL_PROXY", "next:")
    wrong = {"HTTP_PROXY": "http://[::1", "TEO_SERVER": "http://teo.lab.example"}
    check(teo(env, "status", **wrong), 2, "next:")


@pytest.mark.parametrize("port", ["abc", "70000", "-1", "0", "99999999999999999999"])
def test_a_port_that_is_none_is_a_mistake_of_usage(env, port):
    server = f"http://127.0.0.1:{port}"
    check(teo(env, "--server", server, "status"), 2, "port", "next:")
    check(teo(env, "status", TEO_SERVER=server), 2, "port", "next:")


def test_a_terminal_that_lacks_characters_shows_others(env, api):
    api.execution = finished("passed", "passed", command=["sh", "-c", ": ü✓"])
    done = teo(env, "status", EXE, PYTHONIOENCODING="ascii", LC_ALL="C")
    check(done, 0)
    assert b": ??" in done.stdout


def test_a_fault_of_ours_has_a_code_of_its_own_and_a_report(env, api, tmp_path):
    code = (
        "import cli.executions as e\n"
        "def broken(*_, **__): raise KeyError('surprise')\n"
        "e._latest = broken\n"
        "import cli.client as c\n"
        "c.Client.pages = broken\n"
        "from cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status"], env=env, cwd=TREE, capture_output=True, check=False
    )
    err = check(done, 70, "fault of teo itself", "surprise", "next: report it with")
    report = Path(err.partition("report it with ")[2].strip())
    assert report.parent == tmp_path
    assert "Traceback" in report.read_text()
    assert TOKEN not in report.read_text()


def test_a_terminal_that_is_gone_leaves_no_run_behind(env, api):
    api.frames = [lines(1, 1, "hello")]
    api.is_endless = True
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "run", "--", "sleep", "60"],
        env=env,
        cwd=TREE,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"hello" not in seen:
        seen += os.read(ours, 4_096)
    os.close(ours)  # The window is closed: the terminal is gone, and its programs are told.
    process.send_signal(signal.SIGHUP)
    assert process.wait(DEADLINE_S) == 128 + signal.SIGHUP
    assert ("DELETE", f"/v1/executions/{EXE}") in [each[:2] for each in api.asked]
