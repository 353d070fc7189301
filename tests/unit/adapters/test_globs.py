"""What a glob names, and what it never reaches."""

import os
from contextlib import closing
from pathlib import Path

import pytest

import adapters.globs as globs
from adapters.folders import Folder
from adapters.globs import GlobRefused, Matched, check_globs

FILES = (
    "report.xml",
    "log.txt",
    ".hidden",
    "out",
    "a/b.bin",
    "a/deep/er/c.bin",
    "a/deep/d.txt",
    "dir.d/x",
    "we[i]rd.txt",
)


def match_files(root: Path, patterns: list[str]) -> Matched:
    folder = Folder(root, follow=True)
    try:
        return globs.match_files(folder, patterns)
    finally:
        folder.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return root


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("report.xml", ["report.xml"]),
        ("./report.xml", ["report.xml"]),
        ("*.txt", ["log.txt", "we[i]rd.txt"]),
        ("*", [".hidden", "log.txt", "out", "report.xml", "we[i]rd.txt"]),
        ("**", sorted(FILES)),
        ("**/*.bin", ["a/b.bin", "a/deep/er/c.bin"]),
        ("a/**/*.txt", ["a/deep/d.txt"]),
        ("a/**", ["a/b.bin", "a/deep/d.txt", "a/deep/er/c.bin"]),
        ("a/", ["a/b.bin", "a/deep/d.txt", "a/deep/er/c.bin"]),
        ("a//b.bin", ["a/b.bin"]),
        ("a", []),
        ("out/**", []),
        ("**/**/c.bin", ["a/deep/er/c.bin"]),
        ("?.bin", []),
        ("we[[]i]rd.txt", ["we[i]rd.txt"]),
        ("[!r]*.xml", []),
        ("none/*", []),
        ("REPORT.XML", []),
    ],
)
def test_a_glob_names(workspace: Path, pattern: str, expected: list[str]) -> None:
    matched = match_files(workspace, [pattern])
    assert list(matched.paths) == expected
    assert matched.refused == ()


def test_several_globs_name_a_file_once(workspace: Path) -> None:
    assert match_files(workspace, ["*.xml", "**/*.xml", "report.*"]).paths == ("report.xml",)


def test_no_globs_name_nothing(workspace: Path) -> None:
    assert match_files(workspace, []).paths == ()


@pytest.mark.parametrize(
    "pattern",
    [
        "../x",
        "a/../../x",
        "..",
        "/etc/passwd",
        "~/x",
        "",
        ".",
        "/",
        "a\\..\\b",
        "a\0b",
        "x" * 2000,
        "/".join("a" * 65),
    ],
)
def test_a_glob_that_could_climb_out_is_refused(workspace: Path, pattern: str) -> None:
    with pytest.raises(GlobRefused) as caught:
        check_globs(["ok/*", pattern])
    assert (caught.value.code, caught.value.retriable) == ("glob_refused", False)
    with pytest.raises(GlobRefused):
        match_files(workspace, [pattern])


def test_links_out_of_the_workspace_are_refused_and_the_rest_is_found(workspace: Path) -> None:
    secret = workspace.parent / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("k")
    (workspace / "link.txt").symlink_to(secret / "key.txt")
    (workspace / "relative.txt").symlink_to("../secret/key.txt")
    (workspace / "inside.txt").symlink_to("log.txt")
    (workspace / "folder").symlink_to(secret)
    (workspace / "loop.txt").symlink_to("loop.txt")
    matched = match_files(workspace, ["**/*.txt", "folder/"])
    assert matched.paths == ("a/deep/d.txt", "inside.txt", "log.txt", "we[i]rd.txt")
    assert {refused.path: refused.code for refused in matched.refused} == {
        "link.txt": "outside_workspace",
        "relative.txt": "outside_workspace",
        "loop.txt": "unreadable",
        "folder": "link_to_folder",
    }


def test_a_workspace_reached_by_a_link_is_still_the_workspace(workspace: Path) -> None:
    alias = workspace.parent / "alias"
    alias.symlink_to(workspace)
    assert match_files(alias, ["*.xml"]).paths == ("report.xml",)


def test_pipes_are_refused_unopened(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe.txt")
    refused = match_files(workspace, ["pipe.*"]).refused
    assert [(one.path, one.code) for one in refused] == [("pipe.txt", "not_a_file")]


def test_names_of_any_bytes_are_found(workspace: Path) -> None:
    names = [os.fsdecode(b"bad\xff.txt"), "bad\n.txt", "bad\\.txt", "bad" + "n" * 248]
    for name in names:
        (workspace / name).write_text("x")
    matched = match_files(workspace, ["bad*"])
    assert matched.paths == tuple(sorted(names))
    assert matched.refused == ()


def test_what_is_refused_is_said_in_words_that_are_utf8(workspace: Path) -> None:
    os.mkfifo(workspace / os.fsdecode(b"bad\xff.txt"))
    (refused,) = match_files(workspace, ["bad*"]).refused
    assert refused.code == "not_a_file"
    refused.path.encode()


def test_too_many_files_are_cut_and_it_is_said(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globs, "FILES_MAX", 3)
    matched = match_files(workspace, ["**"])
    assert len(matched.paths) == 3
    assert [refused.code for refused in matched.refused] == ["too_many_files"]


def test_a_nasty_pattern_takes_no_time(workspace: Path) -> None:
    (workspace / ("a" * 250)).write_text("x")
    assert match_files(workspace, ["*a" * 100 + "b", "**/" * 60 + "none"]).paths == ()


def test_a_file_of_more_names_than_one_is_of_the_test_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").write_text("of one name")
    with closing(Folder(tmp_path)) as folder:
        uid = folder.status.st_uid
        assert globs.match_files(folder, ["*"]).paths == ("a", "b", "c")
        assert globs.match_files(folder, ["*"], uid=uid).paths == ("a", "b", "c")
        of_another = globs.match_files(folder, ["*"], uid=uid + 1)
    assert of_another.paths == ("c",)
    assert {each.code for each in of_another.refused} == {"hard_link"}
