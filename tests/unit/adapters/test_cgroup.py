"""Control groups as files: what is written where, and what is believed. The kernel is elsewhere."""

import os
from pathlib import Path

import pytest

from adapters.contract import AttemptId, Limits
from adapters.folders import Folder
from adapters.local import cgroup
from adapters.local.place import Place
from adapters.local.use import Use


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    monkeypatch.setattr(cgroup, "base_group", lambda: folder)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(id=AttemptId(execution_id="exe_1", number=1, fence=1), root=tmp_path / "root")
    made.folder.mkdir(parents=True)
    return made


def with_controllers(group: Path, **files: str) -> Path:
    """Let a new group have the files that the kernel gives it."""
    group.mkdir(exist_ok=True)
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cgroup.procs"):
        (group / name).write_text("max")
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text)
    return group


def test_limits_are_told_to_the_controllers_there_are(tmp_path: Path) -> None:
    limits = Limits(memory_max_bytes=1 << 20, processes_max=7, disk_max_bytes=9)
    group = with_controllers(tmp_path / "full")
    cgroup._limit(group, limits)
    said = {path.name: path.read_text() for path in group.iterdir()}
    assert said["memory.max"] == "1048576"
    assert said["memory.swap.max"] == "0", "else the limit is one of memory and swap"
    assert said["memory.oom.group"] == "1", "all of the test ends, not its biggest process"
    assert said["pids.max"] == "7"
    (tmp_path / "bare").mkdir()
    cgroup._limit(tmp_path / "bare", limits)
    assert list((tmp_path / "bare").iterdir()) == []


def test_what_the_kernel_counted_is_what_is_said(tmp_path: Path) -> None:
    limits = Limits(memory_max_bytes=64 << 20, processes_max=7)
    quiet = with_controllers(
        tmp_path / "a", memory__events="low 0\nmax 9\noom_kill 0", pids__events="max 0"
    )
    hungry = with_controllers(
        tmp_path / "b", memory__events="low 0\noom 1\noom_kill 3", pids__events="max 0"
    )
    machines = with_controllers(
        tmp_path / "d", memory__events="low 0\noom 0\noom_kill 3", pids__events="max 0"
    )
    many = with_controllers(tmp_path / "c", memory__events="oom_kill 0", pids__events="max 2")
    for group, found in (
        (quiet, ""),
        (machines, ""),
        (hungry, "memory_max is 64 MiB"),
        (many, "processes_max"),
    ):
        used = Use(limits=limits, guardian=os.getpid(), group=group, workspace=Folder(tmp_path))
        assert used._look().startswith(found)
        assert bool(used._look()) == bool(found)


def test_a_note_leads_to_no_other_group(
    base: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = cgroup.make(place, Limits())
    assert group is not None
    assert group.parent == base
    (group / "cgroup.procs").write_text("")
    elsewhere = with_controllers(base.parent / "elsewhere")
    for noted in (str(base), "/sys/fs/cgroup", f"{base}/../{group.name}", "", str(elsewhere)):
        (place.folder / cgroup.NOTE).write_text(noted)
        assert cgroup.groups_of(place) == [group]
    old = with_controllers(base.parent / "old") / group.name
    with_controllers(old)
    (place.folder / cgroup.NOTE).write_text(str(old))
    assert cgroup.groups_of(place) == [group], "no folder that a test made is one"
    monkeypatch.setattr(cgroup, "_hierarchies", lambda _: [("/", base.parent)])
    assert cgroup.groups_of(place) == [group, old], "that of a life in another group"
    (old / "cgroup.procs").write_text("0\n-1\n7\n")
    assert cgroup.members(old) == [7], "a signal to another number would be one to many"


def test_the_worker_s_own_group_is_found(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    mount = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
    (proc / "mountinfo").write_text("22 1 0:5 / /proc rw - proc proc rw\n" + mount)
    for text, found in (
        ("0::/user.slice/a.scope\n", Path("/sys/fs/cgroup/user.slice/a.scope")),
        ("4:memory:/x\n0::/\n", Path("/sys/fs/cgroup")),
        ("0::/../other\n", None),
        ("4:memory:/x\n", None),
    ):
        (proc / "cgroup").write_text(text)
        assert cgroup._own_group(proc) == found
    (proc / "cgroup").write_text("0::/a\n")
    (proc / "mountinfo").write_text(mount.replace("0:28 / /sys", "0:28 /part /sys"))
    assert cgroup._own_group(proc) is None, "paths in a part of it are not what they are called"


def test_a_worker_alone_in_its_group_makes_way_and_asks_for_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    cgroup._ask_for_controllers(tmp_path)
    assert (tmp_path / cgroup.OWN / "cgroup.procs").read_text() == "0"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"
