"""Folders of ours are closed, whoever made them; those of others are not touched."""

import stat
from pathlib import Path

import pytest

from cli.folders import private_file, private_folder
from cli.problems import Problem


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_closed_and_an_open_one_is_closed(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o755)
    private_folder(tmp_path / "old")
    assert mode(tmp_path / "old") == 0o700


def test_a_folder_that_others_use_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(Problem, match="others use too") as refused:
        private_folder(shared)
    assert str(shared / "teo") in (refused.value.next_step or "")
    assert mode(shared) == 0o1777


def test_a_folder_that_cannot_be_made_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(Problem, match=f"{tmp_path / 'file'} is a file") as refused:
            private_folder(folder)
        assert (refused.value.exit_code, refused.value.next_step) == (2, "name another one")
    with pytest.raises(Problem, match="cannot be made") as refused:
        private_folder(Path("/proc/teo"))
    assert "sudo install -d -m 0700" in refused.value.next_step


def test_a_folder_of_another_user_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(Problem, match="not this user's") as refused:
        private_folder(tmp_path / "a b")
    assert f"chown -R $(id -un) '{tmp_path}/a b'" in refused.value.next_step


def test_a_file_and_what_lies_beside_it_is_closed(tmp_path: Path) -> None:
    for name in ("db.sqlite", "db.sqlite-wal", "other"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    private_file(tmp_path / "db.sqlite")
    assert [mode(tmp_path / name) for name in ("db.sqlite", "db.sqlite-wal", "other")] == [
        0o600,
        0o600,
        0o644,
    ]
    private_file(tmp_path / "none")
