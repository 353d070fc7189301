"""`teo up` and `teo down` say what they can know before anything is started or ended."""

import fcntl
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.main import VERBS
from cli.root import build
from tests.unit.cli.fake_api import EXE, TOKEN, FakeApi, execution

TREE = Path(__file__).resolve().parents[3]
DEADLINE_S = 30.0
CODE = "from cli.main import main; main()"
OWNER = """
import asyncio, json, os, signal, sys
from pathlib import Path
from cli.local.occupant import take

async def own(folder, server):
    lock = await take(folder, print)
    (folder / "up.json").write_text(json.dumps({"pid": os.getpid(), "server": server}))
    print("up", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()

asyncio.run(own(Path(sys.argv[1]), sys.argv[2]))
"""
"""As `teo up` does it, without what it starts."""


def teo(capsys, *args):
    """Run `teo` in this process; return its exit code and what it said."""
    with pytest.raises(SystemExit) as left:
        build(VERBS)(list(map(str, args)), prog_name="teo")
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return left.value.code or 0, said


@pytest.fixture(autouse=True)
def _umask_stays():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def free_of_kafka(monkeypatch):
    """Nothing may be started by what is refused."""

    def started(*_args, **_given):
        raise AssertionError("it was started")

    monkeypatch.setattr("cli.up._spawn", started)
    monkeypatch.setattr("cli.local.stack.Stack.run", started)


def test_down_with_nothing_up_names_the_way_to_another_folder(tmp_path, capsys):
    code, said = teo(capsys, "down", "--data-dir", tmp_path)
    assert not code
    assert f"nothing is up in {tmp_path}" in said
    assert "--data-dir, or TEO_DATA_DIR" in said


@pytest.mark.usefixtures("free_of_kafka")
@pytest.mark.parametrize("detach", [["--detach"], []], ids=["detached", "here"])
class TestRefusedBeforeAnythingIsStarted:
    """One line, the next step, and exit 2 or 3."""

    @pytest.mark.parametrize("port", [-1, 70_000, 10**30])
    def test_a_port_out_of_range(self, capsys, tmp_path, port, detach):
        code, said = teo(capsys, "up", *detach, "--port", port, "--data-dir", tmp_path / "d")
        assert code == 2
        assert "--port" in said

    @pytest.mark.parametrize("name", ["file", "file/below"])
    def test_a_file_in_place_of_the_folder(self, capsys, tmp_path, name, detach):
        (tmp_path / "file").touch()
        code, said = teo(capsys, "up", *detach, "--data-dir", tmp_path / name)
        assert code == 2
        assert f"{tmp_path / 'file'} is a file" in said
        assert said.count("\n") == 2

    def test_a_name_that_is_no_utf_8(self, capsys, tmp_path, detach):
        code, said = teo(capsys, "up", *detach, "--data-dir", tmp_path / os.fsdecode(b"\xff"))
        assert code == 2
        assert "is no UTF-8" in said
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_nobody_can_find(self, capsys, tmp_path, monkeypatch, detach):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        for name in ("data", "~nobody-of-that-name/data"):
            code, said = teo(capsys, "up", *detach, "--data-dir", name)
            assert code == 2
            assert f"{name} cannot be found" in said

    def test_a_port_that_another_has(self, capsys, tmp_path, detach):
        api = FakeApi()
        api.start()
        try:
            code, said = teo(capsys, "up", *detach, "--port", api.port, "--data-dir", tmp_path)
        finally:
            api.stop()
        assert code == 2
        assert f"port {api.port} cannot be had: Address already in use" in said

    def test_a_full_disk(self, capsys, tmp_path, monkeypatch, detach):
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 << 20))
        code, said = teo(capsys, "up", *detach, "--data-dir", tmp_path / "d")
        assert code == 3
        assert "has 5 MiB left, and 64 are needed" in said


@pytest.mark.parametrize("name", ["logs", "up.lock"])
def test_something_else_in_place_of_a_file_of_ours_is_named(capsys, tmp_path, name):
    if name == "logs":
        (tmp_path / name).touch()
    else:
        (tmp_path / name).mkdir()
    code, said = teo(capsys, "up", "--detach", "--data-dir", tmp_path)
    assert code == 2
    assert str(tmp_path / name) in said


def test_what_does_not_come_up_says_so_as_the_one_that_was_started(capsys, tmp_path):
    code, said = teo(capsys, "up", "--detach", "--kafka", ":x", "--data-dir", tmp_path)
    assert code == 3
    assert "teo: ':x' is no address of a Kafka" in said
    again = teo(capsys, "up", "--detach", "--kafka", ":y", "--data-dir", tmp_path)[1]
    assert "':y'" in again
    assert "':x'" not in again


class Owner:
    """A process that has taken a folder."""

    def __init__(self, folder, server):
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(TOKEN)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), server], cwd=TREE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"


@pytest.fixture
def api():
    fake = FakeApi()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def owner(tmp_path, api):
    found = Owner(tmp_path / "data", api.url)
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.mark.usefixtures("free_of_kafka")
def test_a_folder_in_use_is_refused_and_down_ends_its_owner(capsys, owner):
    code, said = teo(capsys, "up", "--data-dir", owner.folder)
    assert code == 2
    assert f"(process {owner.process.pid}, {owner.folder})" in said
    (owner.folder / "up.json").unlink()
    code, said = teo(capsys, "up", "--data-dir", owner.folder)
    assert code == 2
    assert "it is being started already" in said
    assert teo(capsys, "down", "--data-dir", owner.folder)[0] == 0
    assert owner.process.wait(DEADLINE_S) == 0


def test_a_note_of_a_process_that_is_gone_ends_no_stranger(capsys, tmp_path):
    """The words of the stranger are those of `teo up`, and the pid is the one in the notes."""
    with subprocess.Popen([sys.executable, "-c", "input()", "up"], stdin=subprocess.PIPE) as other:
        (tmp_path / "up.json").write_text(json.dumps({"pid": other.pid, "server": "http://x:1"}))
        (tmp_path / "up.lock").write_text(f"{other.pid} 1 -")
        code, said = teo(capsys, "down", "--data-dir", tmp_path)
        assert (code, other.poll()) == (0, None)
        assert "nothing is up" in said
        other.kill()


def test_what_a_killed_one_left_is_waited_for_and_a_stranger_with_its_pid_is_not_told(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("cli.down.STOP_S_MAX", 0.3)
    with subprocess.Popen(["sleep", "60"]) as stranger, (tmp_path / "up.lock").open("w") as lock:
        lock.write(f"{stranger.pid} 1 -")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as left:
            lock.close()
            code, said = teo(capsys, "down", "--data-dir", tmp_path)
            assert (code, stranger.poll()) == (3, None)
            assert f"fuser {tmp_path / 'up.lock'}" in said
            left.kill()
        assert teo(capsys, "down", "--data-dir", tmp_path)[0] == 0
        stranger.kill()


@pytest.mark.parametrize("flags", [[], ["--yes"]])
def test_down_says_which_tests_it_ends(capsys, owner, api, flags):
    api.listed = [execution(status="running"), execution(id="exe-2", status="collecting")]
    code, said = teo(capsys, "down", "--data-dir", owner.folder, *flags)
    assert code == 0, said
    assert "2 test runs at work, to be ended" in said
    assert f"{EXE}  running on bench-1, of ann: true" in said
    assert owner.process.wait(DEADLINE_S) == 0


def test_down_with_an_api_that_does_not_answer_stops_it_all_the_same(capsys, owner, monkeypatch):
    state = json.loads((owner.folder / "up.json").read_text())
    (owner.folder / "up.json").write_text(json.dumps({**state, "server": "http://127.0.0.1:9"}))
    monkeypatch.setattr("cli.down.ASK_S_MAX", 0.1)
    code, said = teo(capsys, "down", "--data-dir", owner.folder)
    assert code == 0
    assert "not known whether tests run" in said
    assert owner.process.wait(DEADLINE_S) == 0


def test_drain_takes_nothing_more_and_waits(capsys, owner, api, monkeypatch):
    monkeypatch.setattr("cli.down.DRAIN_POLL_S", 0.01)
    api.workers = [{"worker": "local-lab", "pool": "lab", "state": "online"}]
    api.listed = [execution(status="running")]
    api.lists = 3
    code, said = teo(capsys, "down", "--drain", "--data-dir", owner.folder)
    assert code == 0, said
    drains = [each[1] for each in api.asked if each[0] == "POST"]
    assert drains == ["/v1/pools/lab/workers/local-lab/drain"]
    assert owner.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 4), (b"y\n", 0)])
def test_down_asks_on_a_terminal(owner, api, tmp_path, answer, code):
    api.listed = [execution(status="running")]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "down", "--data-dir", str(owner.folder)],
        env={**os.environ, "TERM": "xterm", "TEO_CONFIG": str(tmp_path / "config.yaml")},
        cwd=TREE,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"end 1 test run?" not in seen:
        seen += os.read(ours, 4_096)
    os.write(ours, answer)
    assert process.wait(DEADLINE_S) == code
    os.close(ours)
    if code:
        assert owner.process.poll() is None
    else:
        assert owner.process.wait(DEADLINE_S) == 0
