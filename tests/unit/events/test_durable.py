"""What is on the disk when, by the order of the calls that put it there."""

import os
from pathlib import Path

import pytest

from events import durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every sync and rename, in order, by the name of the file or folder."""
    seen: list[str] = []
    fsync, replace, mkdir = os.fsync, Path.replace, Path.mkdir

    def name_of(descriptor: int) -> str:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        return "draft" if name.endswith(".new") else name

    def spy_fsync(descriptor: int) -> None:
        seen.append(f"sync {name_of(descriptor)}")
        fsync(descriptor)

    def spy_replace(path: Path, target: Path) -> Path:
        seen.append(f"rename to {target.name}")
        return replace(path, target)

    def spy_mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False):
        seen.append(f"make {path.name}")
        mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    monkeypatch.setattr(Path, "mkdir", spy_mkdir)
    return seen


def test_content_then_name_then_folder(tmp_path: Path, calls: list[str]) -> None:
    path = tmp_path / "epoch"
    durable.write_whole(path, "7")
    durable.write_whole(path, b"8")
    assert path.read_text() == "8"
    assert calls == ["sync draft", "rename to epoch", f"sync {tmp_path.name}"] * 2
    assert [each.name for each in tmp_path.iterdir()] == ["epoch"]


def test_a_secret_is_nobody_elses_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    durable.write_whole(path, "secret", mode=durable.OWN_MODE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_what_was_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    durable.write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_whole(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_each_new_folder_is_in_the_one_above_before_the_next(
    tmp_path: Path, calls: list[str]
) -> None:
    durable.make_folder(tmp_path / "a" / "b", mode=0o700)
    assert calls == ["make a", f"sync {tmp_path.name}", "make b", "sync a"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    durable.make_folder(tmp_path / "a" / "b")
    assert len(calls) == 4
