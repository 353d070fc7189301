"""`teo up` where people live: odd names, proxies, full disks, kills at any moment. All is real."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.local.tree import processes
from cli.local.cluster import ClusterConfig
from tests.e2e.lab import TEO, until
from tests.kafka import embedded_kafka

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.kill, pytest.mark.timeout(200)]

NOWHERE = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY")
DISK_MB = 96


class Person:
    """Somebody with a data folder, and an environment that may be odd."""

    def __init__(self, folder: Path, data: Path, *flags: str, **env: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TEO_")}
        self.env = {**kept, "TEO_CONFIG": str(folder / "cfg" / "config.yaml"), **env}
        if "TEO_CACHE_DIR" in os.environ:
            self.env["TEO_CACHE_DIR"] = os.environ["TEO_CACHE_DIR"]
        self.folder = folder
        self.data = data
        self._flags = [*flags, "--port", "0", "--data-dir", str(data)]

    def teo(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [str(TEO), *arguments]
        return subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )

    def up(self) -> "subprocess.CompletedProcess[str]":
        done = self.teo("up", "--detach", *self._flags)
        assert done.returncode == 0, done.stderr
        return done

    def down(self, *flags: str) -> "subprocess.CompletedProcess[str]":
        done = self.teo("down", "--data-dir", str(self.data), *flags)
        assert done.returncode == 0, done.stderr
        assert self.left() == []
        return done

    def begin(self, notes: Path) -> "subprocess.Popen[bytes]":
        """Start it in the foreground."""
        with notes.open("wb") as output:
            return subprocess.Popen(
                [str(TEO), "up", *self._flags],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def state(self) -> Any:
        return json.loads((self.data / "up.json").read_text())

    def as_admin(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Ask the API with what the folder says, whatever context there is."""
        token = (self.data / "token").read_text().strip()
        return self.teo("--server", self.state["server"], "--token", token, *arguments)

    def serving(self, besides: dict[str, int]) -> set[str]:
        """Return the roles that run here in other processes than `besides` names."""
        found = set()
        for pid, parent, *_ in processes():
            if parent == self.state["pid"] and pid not in besides.values():
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                found.update(words[4:5] if words[3:4] == ["serve"] else [])
        return found

    def left(self) -> list[str]:
        """Return the processes whose command names the data folder."""
        listed = subprocess.run(["ps", "-Awwo", "stat=,args="], capture_output=True, text=True)
        lines = [line for line in listed.stdout.splitlines() if f"{self.data}" in line]
        return [line for line in lines if line[:1] != "Z" and "-m cli.main up" not in line]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka of these tests' own: most of them need not start one each time."""
    folder = tmp_path_factory.mktemp("kafka") / "data"
    with embedded_kafka(ClusterConfig(data_dir=folder)) as kafka:
        yield kafka.bootstrap


def test_odd_names_proxies_and_torn_files_are_no_reason_not_to_work(tmp_path: Path) -> None:
    data = tmp_path / "home" / "jürgen, a:b %41\n#"
    data.mkdir(parents=True)
    (tmp_path / "cfg").touch()  # So that no context can be written.
    with subprocess.Popen([sys.executable, "-c", "input()", "up"], stdin=subprocess.PIPE) as other:
        (data / "up.json").write_text(json.dumps({"pid": other.pid, "server": NOWHERE}))
        (data / "up.lock").write_text(f"{other.pid} 1 -")
        (data / "up.lock").chmod(0o600)
        (data / "token").touch()
        proxies = dict.fromkeys(PROXIES, NOWHERE)
        me = Person(tmp_path, data, **proxies, LC_ALL="C", LANG="C")
        try:
            said = me.up().stderr
            assert "no context was written" in said
            assert f"TEO_SERVER={me.state['server']}" in said
            assert me.as_admin("status").returncode == 0
            assert list((data / "kafka").rglob("teo.events-0")), "Kafka's data is in the folder"
            assert [each.name for each in data.parent.iterdir()] == [data.name]
            modes = {each: each.lstat().st_mode for each in data.rglob("*")}
            assert not [each for each, mode in modes.items() if mode & 0o077]
            checked = me.teo("fsck", "--data-dir", str(data))
            assert checked.returncode == 0, checked.stderr
        finally:
            me.down()
        assert other.poll() is None, "who has the pid that is noted is left alone"
        other.kill()


def test_killed_at_any_moment_nothing_of_it_is_left_and_it_starts_again(
    tmp_path: Path, broker: str
) -> None:
    me = Person(tmp_path, tmp_path / "data", "--kafka", broker)
    for number, moment in enumerate(("starting scheduler", "starting watcher", "up: ")):
        notes = tmp_path / f"notes-{number}"
        process = me.begin(notes)
        until(lambda notes=notes, moment=moment: moment in notes.read_text(), moment)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert me.teo("down", "--data-dir", str(me.data)).returncode == 0
    assert me.left() == [], "what is left was waited for"
    me.up()
    me.down()


def test_told_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    me = Person(tmp_path, tmp_path / "data")
    process = me.begin(tmp_path / "notes")
    until(lambda: "starting Apache" in (tmp_path / "notes").read_text(), "Kafka starts")
    me.down()
    assert process.wait(30) == 0
    assert "it was not up yet" in (tmp_path / "notes").read_text()


def test_a_closed_terminal_ends_it_in_good_order_and_gives_the_context_back(
    tmp_path: Path, broker: str
) -> None:
    me = Person(tmp_path, tmp_path / "data", "--kafka", broker)
    assert me.teo("config", "set", "lab", "--server", NOWHERE).returncode == 0
    process = me.begin(tmp_path / "notes")
    until((me.data / "up.json").exists, "it is up")
    assert json.loads(me.teo("config", "show", "-o", "json").stdout)["context"] == "local"
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert me.left() == []
    assert not (me.data / "up.json").exists()
    assert json.loads(me.teo("config", "show", "-o", "json").stdout)["context"] == "lab"
    assert "not to 'lab' as before" in (tmp_path / "notes").read_text()


def test_drain_lets_the_tests_end_before_all_is_stopped(tmp_path: Path, broker: str) -> None:
    me = Person(tmp_path, tmp_path / "data", "--kafka", broker)
    me.up()
    file = tmp_path / "bench.yaml"
    file.write_text("pool: lab\nbenches:\n  - {name: a, adapter: local}\n")
    assert me.teo("bench", "apply", "-f", str(file)).returncode == 0
    end = tmp_path / "end"
    command = f"until [ -e {end} ]; do sleep 0.1; done; echo done"
    run = me.teo("run", "--detach", "--", "sh", "-c", command)
    until(lambda: '"running"' in me.teo("status", "-o", "json").stdout, "it runs")
    with ThreadPoolExecutor() as pool:
        down = pool.submit(me.down, "--drain")
        until(lambda: '"draining"' in me.teo("worker", "list", "-o", "json").stdout, "it drains")
        end.touch()
        assert "nothing more is started" in down.result().stderr
    me.up()
    assert me.teo("wait", run.stdout.strip()).returncode == 0, "it ended before all was stopped"
    me.down()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that a test can fill."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield folder
    until(lambda: subprocess.run(["umount", str(folder)]).returncode == 0, "the disk is let go")


def fill(path: Path) -> None:
    """Take all the room that is left on a disk."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * (1 << 20)):
            pass


def test_a_full_disk_ends_no_supervision(tmp_path: Path, broker: str, small_disk: Path) -> None:
    me = Person(tmp_path, small_disk / "data", "--kafka", broker)
    me.up()
    try:
        fill(small_disk / "fill")
        before = me.state["roles"]
        for role in ("worker", "watcher"):
            os.kill(before[role], signal.SIGKILL)
        until(
            lambda: fill(small_disk / "fill") or {"worker", "watcher"} <= me.serving(before),
            "both run on the full disk",
        )
        (small_disk / "fill").unlink()
        until(lambda: me.state["roles"]["worker"] != before["worker"], "up.json names them")
        assert me.as_admin("status").returncode == 0
    finally:
        me.down()
