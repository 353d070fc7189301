"""Epochs rise over restarts; what must be torn down is found again."""

from pathlib import Path

import pytest

from processors.worker.state_dir import Leftover, StateDir, StateUnreadable

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
