"""Epochs rise over restarts; what must be torn down is found again; junk is set aside."""

import errno
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from processors.worker.state_dir import Leftover, StateDir, StateInUse, StateUnreadable

NOTE = Leftover(
    execution_id="exe/../1", attempt=1, fence=2, bench="b", adapter="a", handle="{}", epoch=1
)


def test_epochs_rise(tmp_path: Path) -> None:
    assert StateDir(tmp_path).begin("a").epoch == 1
    assert StateDir(tmp_path).begin("b").epoch == 2
    StateDir(tmp_path).raise_epoch(9)
    StateDir(tmp_path).raise_epoch(4)
    assert StateDir(tmp_path).begin("c").epoch == 10


def test_a_broken_epoch_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("seven")
    with pytest.raises(StateUnreadable, match=r"epoch holds no epoch.*write the worker's last"):
        StateDir(tmp_path).begin("a")


@pytest.mark.parametrize("text", ["-1", "9" * 19, "9" * 5_000, ""])
def test_an_epoch_that_no_worker_reaches_is_no_epoch(tmp_path: Path, text: str) -> None:
    """What does not fit a report would end the process, and all pools of it, at each start."""
    (tmp_path / "epoch").write_text(text)
    with pytest.raises(StateUnreadable, match="holds no epoch"):
        StateDir(tmp_path).begin("a")


def test_a_state_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnreadable, match="state_dir"):
        StateDir(tmp_path / "file" / "state")


def test_leftovers_are_found_until_forgotten(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.remember(NOTE)
    (tmp_path / "handles" / "torn.json").write_text('{"exec')
    assert list(StateDir(tmp_path).leftovers()) == [NOTE]
    assert (tmp_path / "handles" / "torn.broken").exists(), "set aside, not lost"
    state.forget(NOTE)
    state.forget(NOTE)
    assert list(state.leftovers()) == []


def test_files_of_earlier_lives(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for epoch in (1, 2, 3):
        state.spool_path(epoch).write_text("")
        state.log_path("exe", 1, epoch).write_text("")
    assert {path.stem.rpartition("-")[2] for path in state.old_files(3)} == {"1", "2"}
    assert len(state.old_files(3)) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"fence": "2"},
        {"fence": 2**63},
        {"fence": -1},
        {"attempt": True},
        {"epoch": None},
        {"bench": ["b"]},
        {"adapter": {}},
        {"handle": 7},
        {"of_a_later_version": 1},
    ],
)
@pytest.mark.parametrize("folder", ["handles", "fences"])
def test_a_note_that_holds_something_else_is_set_aside(
    tmp_path: Path, folder: str, change: dict[str, Any]
) -> None:
    StateDir(tmp_path).remember(NOTE)
    (tmp_path / folder / "odd.json").write_text(json.dumps(asdict(NOTE) | change))
    state = StateDir(tmp_path)
    assert list(state.leftovers()) == [NOTE]
    assert (tmp_path / folder / "odd.broken").exists()


@pytest.mark.parametrize("name", ["handles/odd.json", "fences/odd.json", "life"])
def test_a_file_without_an_end_to_its_brackets_keeps_no_worker_from_its_life(
    tmp_path: Path, name: str
) -> None:
    state = StateDir(tmp_path)
    (tmp_path / name).write_text("[" * 200_000)
    assert list(StateDir(tmp_path).leftovers()) == []
    assert state.begin("a").epoch == 1


def _begun(root: Path, life: str) -> bool:
    """Begin a life as a process does; return whether the folder counts as a copy."""
    state = StateDir(root)
    with state.locked():
        return state.begin(life).is_copy


def test_what_a_copied_folder_notes_is_let_go_and_its_fences_are_kept(tmp_path: Path) -> None:
    own, copy = tmp_path / "own", tmp_path / "copy"
    assert _begun(own, "a"), "nobody noted anything there"
    StateDir(own).remember(NOTE)
    shutil.copytree(own, copy)
    assert _begun(copy, "b")
    assert not _begun(own, "c")
    state = StateDir(copy)
    state.disown()
    assert not _begun(copy, "d"), "what is noted from now on is its own"
    assert list(state.leftovers()) == []
    assert StateDir(copy).fences.why_not(NOTE.bench_key, NOTE.fence)
    assert list(StateDir(own).leftovers()) == [NOTE]


def test_a_machine_that_was_started_again_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begun(tmp_path, "a")
    boot = tmp_path / "boot"
    boot.write_text("another start")
    monkeypatch.setattr("processors.worker.state_dir.BOOT_ID", boot)
    state = StateDir(tmp_path)
    with state.locked():
        begun = state.begin("b")
    assert (begun.is_copy, begun.after_life) == (False, "")


def test_a_full_disk_keeps_nobody_from_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has it is noted for people only; whether an attempt fits is the fitness's to say."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("processors.worker.state_dir.os.pwrite", full)
    state = StateDir(tmp_path)
    with state.locked(), pytest.raises(StateInUse), StateDir(tmp_path).locked():
        pass


def test_a_disk_that_does_not_give_its_notes_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    state = StateDir(tmp_path)
    monkeypatch.setattr(Path, "glob", broken)
    with pytest.raises(StateUnreadable, match="cannot read"):
        state.leftovers()
    with pytest.raises(StateUnreadable, match="Input/output error"):
        StateDir(tmp_path)
