"""A test that takes more of its machine than it may is ended, and told so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.contract import Exit, Limits
from adapters.folders import Folder
from adapters.local import cgroup
from adapters.local.use import disk_use
from tests.integration.local_bench import Local
from tests.integration.trees import DEADLINE_S, ON_LINUX

pytestmark = [pytest.mark.kill, ON_LINUX]

MIB = 1 << 20
HOG = """
import os, sys, time
kept = []
for child in range(int(sys.argv[1])):
    if os.fork() == 0:
        break
for _ in range(100):
    kept.append(os.urandom(1 << 20))
    time.sleep(0.01)
print("full", flush=True)
time.sleep(600)
"""
SHARE = """
import os, time
whole = os.urandom(48 << 20)
for child in range(4):
    if os.fork() == 0:
        time.sleep(2.0)
        os._exit(0)
for child in range(4):
    os.wait()
"""
MANY = """
import os, threading, time
for _ in range(8):
    if os.fork() == 0:
        for _ in range(3):
            threading.Thread(target=time.sleep, args=(600,)).start()
        break
time.sleep(600)
"""
# As a fork bomb begins; it ends at 128, so that a machine on which it is not stopped lives on.
BOMB = """
import os, time
for _ in range(7):
    os.fork()
time.sleep(600)
"""
# Deeper than a path can say, and than Python may recurse.
DEEP = """
import os
for _ in range(1200):
    os.mkdir("folder")
    os.chdir("folder")
with open("file", "wb") as file:
    file.write(bytes(3 << 20))
"""


@pytest.fixture(params=["cgroup", "no-cgroup"])
def group(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no-cgroup":
        monkeypatch.setattr(cgroup, "base_group", lambda: None)
    elif cgroup.base_group() is None:
        pytest.skip("no control group of version 2 is delegated to this process")
    return str(request.param)


def over(exit_: Exit, limit: str, allowed: str) -> bool:
    return (
        exit_.ended == "limit_exceeded" and f"{limit} is {allowed}, the test took" in exit_.detail
    )


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("children", [0, 3])
def test_memory_of_all_its_processes_is_counted(local: Local, children: int) -> None:
    limits = Limits(memory_max_bytes=80 * MIB)
    attempt = local.attempt(sys.executable, "-c", HOG, str(children), limits=limits)
    assert over(local.play(attempt), "memory_max", "80 MiB")


@pytest.mark.usefixtures("group")
def test_memory_that_processes_share_is_counted_once(local: Local) -> None:
    limits = Limits(memory_max_bytes=120 * MIB)
    assert local.play(local.attempt(sys.executable, "-c", SHARE, limits=limits)).code == 0


@pytest.mark.usefixtures("group")
def test_processes_and_threads_are_counted(local: Local) -> None:
    limits = Limits(processes_max=20)
    exit_ = local.play(local.attempt(sys.executable, "-c", MANY, limits=limits))
    assert over(exit_, "processes_max", "20")


@pytest.mark.usefixtures("group")
def test_processes_that_double_are_ended(local: Local) -> None:
    began = time.monotonic()
    attempt = local.attempt(sys.executable, "-c", BOMB, limits=Limits(processes_max=50))
    assert over(local.play(attempt), "processes_max", "50")
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize(
    "command",
    [
        ("dd", "if=/dev/zero", "of=one", "bs=1M", "count=3", "status=none"),
        ("sh", "-c", "for i in 1 2 3; do head -c 1048576 /dev/zero > $i; done; exec sleep 600"),
        (sys.executable, "-c", DEEP),
    ],
    ids=["ends before anybody looks", "goes on", "1,200 folders deep"],
)
def test_a_workspace_that_grows_too_big_fails_its_test(
    local: Local, command: tuple[str, ...]
) -> None:
    exit_ = local.play(local.attempt(*command, limits=Limits(disk_max_bytes=2 * MIB)))
    assert over(exit_, "disk_max", "2 MiB")


def test_one_file_cannot_run_away_between_two_looks(local: Local, tmp_path: Path) -> None:
    limits = Limits(disk_max_bytes=2 * MIB)
    exit_ = local.play(local.attempt("sh", "-c", "head -c 1G /dev/zero > big", limits=limits))
    assert over(exit_, "disk_max", "2 MiB")
    assert float(exit_.detail.split()[-2]) < 4


@pytest.mark.parametrize("file", ["holes", "../holes"])
def test_a_file_that_would_be_too_big_fails_its_test_though_it_takes_no_disk(
    local: Local, file: str
) -> None:
    limits = Limits(disk_max_bytes=2 * MIB)
    exit_ = local.play(local.attempt("truncate", "-s", "1G", file, limits=limits))
    assert over(exit_, "disk_max", "2 MiB")
    exit_ = local.play(local.attempt("sh", "-c", "kill -SEGV $$", limits=limits))
    assert (exit_.ended, exit_.signal) == ("exited", signal.SIGSEGV)


def test_within_its_limits_a_test_has_its_own_result(local: Local) -> None:
    limits = Limits(memory_max_bytes=500 * MIB, processes_max=50, disk_max_bytes=50 * MIB)
    assert local.play(local.attempt("sh", "-c", "sleep 0.6; exit 3", limits=limits)) == Exit(
        ended="exited", code=3
    )


def test_the_smaller_limit_of_bench_and_run_holds(local: Local) -> None:
    write = ("dd", "if=/dev/zero", "of=one", "bs=1M", "count=3", "status=none")
    for config, limit in (("2M", 9 * MIB), ("9M", 2 * MIB), ("2M", None)):
        attempt = local.attempt(
            *write, config={"disk_max": config}, limits=Limits(disk_max_bytes=limit)
        )
        assert over(local.play(attempt), "disk_max", "2 MiB")


@pytest.mark.parametrize(
    "hide", ['mkdir "$OLDPWD"', 'ln -s / "$OLDPWD"', "true"], ids=["folder", "link", "nothing"]
)
def test_a_workspace_that_is_moved_is_counted_where_it_is(local: Local, hide: str) -> None:
    script = f'cd ..; mv "$OLDPWD" away; {hide}; head -c 3M /dev/zero > away/big'
    limits = Limits(disk_max_bytes=2 * MIB)
    attempt = local.attempt("sh", "-c", script, limits=limits)
    assert over(local.play(attempt), "disk_max", "2 MiB")


def test_what_a_folder_takes_is_what_du_says(tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / f"a{number}" / "b"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(10_000 * number))
        os.link(folder / "file", folder / "again")
        (folder / "link").symlink_to("/")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    done = subprocess.run(["du", "-s", "-B1", str(tmp_path)], stdout=subprocess.PIPE, check=True)
    said = int(done.stdout.split()[0])
    folder = Folder(tmp_path)
    assert disk_use(folder) == said - tmp_path.stat().st_blocks * 512
    folder.close()
    assert disk_use(folder) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a test as another user")
def test_a_test_of_its_own_user_can_have_so_many_processes_and_no_more(local: Local) -> None:
    config = {"user": "dynamic", "processes_max": 20}
    local.play(local.attempt("grep", "Max processes", "/proc/self/limits", config=config))
    assert local.text()[0].split()[2] == str(20 + 1024), "for what nobody sees in time"
