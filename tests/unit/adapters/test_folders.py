"""Trees that tests left: any depth, rights and names, removed whole and never beyond themselves."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.folders import Folder, GivenUp, LeadsOut, identity_of, mounts_below, remove_tree
from adapters.globs import match_files
from adapters.local.use import disk_use

NOBODY = 65_534


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A folder to fill; pytest's own removal of old folders recurses, so nothing deep may stay."""
    root = tmp_path / "tree"
    root.mkdir()
    yield root
    remove_tree(root)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "key").write_text("k")
    return folder


def deepen(root: Path, levels: int) -> None:
    """Make a folder in a folder, `levels` times: deeper than any path can say."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as leaf:
        leaf.write("leaf")
    os.close(fd)


@pytest.mark.parametrize("levels", [1, 1_500])
def test_a_tree_of_any_depth_is_removed(tree: Path, levels: int) -> None:
    deepen(tree, levels)
    remove_tree(tree)
    assert not tree.exists()


def test_many_folders_and_odd_names_are_removed(tree: Path) -> None:
    for number in range(300):
        (tree / f"{number}" / "x").mkdir(parents=True)
        (tree / f"{number}" / "x" / "a\nb").touch()
    for name in (b"bad\xff", b"n" * 255, b"-rf", b" ", b"\n"):
        (tree / os.fsdecode(name)).mkdir()
        (tree / os.fsdecode(name) / os.fsdecode(name)).touch()
    os.mkfifo(tree / "pipe")
    remove_tree(tree)
    assert not tree.exists()


def test_what_links_lead_to_stays(tree: Path, precious: Path) -> None:
    (tree / "folder").symlink_to(precious)
    (tree / "file").symlink_to(precious / "key")
    os.link(precious / "key", tree / "hard")
    remove_tree(tree)
    assert not tree.exists()
    assert (precious / "key").read_text() == "k"


def test_a_link_in_the_place_of_a_tree_is_removed_itself(tmp_path: Path, precious: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(precious)
    remove_tree(link)
    assert not os.path.lexists(link)
    assert (precious / "key").exists()
    remove_tree(tmp_path / "none")


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Give a folder of a user without rights over others', and be that user if we are root."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=False)
        shutil.rmtree(folder)


def test_rights_that_were_taken_away_are_taken_back() -> None:
    with as_nobody() as folder:
        tree = folder / "tree"
        for name in ("none", "read", "enter", "none/none"):
            (tree / name).mkdir(parents=True)
            (tree / name / "file").touch()
        for name, mode in (("none/none", 0), ("none", 0), ("read", 0o400), ("enter", 0o100)):
            (tree / name).chmod(mode)
        tree.chmod(0)
        remove_tree(tree)
        assert not tree.exists()


def test_a_folder_that_can_be_listed_and_not_entered_ends_no_walk() -> None:
    with as_nobody() as folder:
        for name in ("a", "z"):
            (folder / "tree" / name).mkdir(parents=True)
            (folder / "tree" / name / "file").write_bytes(b"x" * 100_000)
        (folder / "tree" / "a").chmod(0o444)
        held = Folder(folder / "tree")
        found = match_files(held, ["**"])
        assert found.paths == ("z/file",)
        assert [(each.path, each.code) for each in found.refused] == [("a", "unreadable")]
        assert disk_use(held) >= 100_000


@pytest.mark.parametrize("mark", ["+i", "+a"])
def test_what_was_marked_as_unchangeable_is_removed(tree: Path, mark: str) -> None:
    (tree / "folder" / "empty").mkdir(parents=True)
    (tree / "folder" / "file").write_text("x")
    (tree / "shut").mkdir(mode=0)
    marked = [tree / "folder" / "file", tree / "folder" / "empty", tree / "folder", tree / "shut"]
    done = subprocess.run(["chattr", mark, *marked, tree], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be marked here: {done.stderr.decode().strip()}")
    with pytest.raises(PermissionError):
        shutil.rmtree(tree)
    remove_tree(tree)
    assert not tree.exists()


def test_a_removal_gives_up_when_told(tree: Path) -> None:
    deepen(tree, 10)
    asked = iter([False] * 5 + [True] * 100)
    with pytest.raises(GivenUp):
        remove_tree(tree, is_given_up=lambda: next(asked))
    assert tree.exists()
    remove_tree(tree)
    assert not tree.exists()


def test_nothing_is_removed_through_a_mount(tree: Path, precious: Path) -> None:
    point = tree / "a b"
    point.mkdir()
    done = subprocess.run(["mount", "--bind", precious, point], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        assert mounts_below(tree) == [str(point)]
        with pytest.raises(OSError, match="mount point"):
            remove_tree(tree)
        assert (precious / "key").exists()
    finally:
        subprocess.run(["umount", point], check=True)
    remove_tree(tree)
    assert (precious / "key").exists()


def test_a_folder_that_is_held_stays_itself(tree: Path, precious: Path) -> None:
    (tree / "mine").write_text("mine")
    folder = Folder(tree)
    assert folder.is_in_place
    tree.rename(tree.with_name("elsewhere"))
    assert not folder.is_in_place
    tree.symlink_to(precious)
    assert not folder.is_in_place
    assert not folder.is_removed
    with folder.open("mine") as file:
        assert file.read() == b"mine"
    with pytest.raises(FileNotFoundError):
        folder.open("key")
    remove_tree(tree.with_name("elsewhere"))
    assert folder.is_removed
    folder.close()
    with pytest.raises(OSError, match="given up"):
        folder.open("mine")


def test_a_link_is_no_folder(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(OSError):
        Folder(tmp_path / "link")


@pytest.mark.parametrize(
    ("target", "leads"),
    [
        ("file", "in"),
        ("sub/other", "in"),
        ("sub/../file", "in"),
        ("sub/up/file", "in"),
        ("./sub/./other", "in"),
        ("sub/whole", "in"),
        ("../precious/key", "out"),
        ("sub/../../precious/key", "out"),
        ("sub/up/../precious/key", "out"),
        ("/etc/hostname", "out"),
        ("sub/out/key", "out"),
        ("none", "nowhere"),
        ("link", "nowhere"),
        ("sub", "nowhere"),
        ("file/x", "nowhere"),
        ("pipe", "nowhere"),
    ],
)
def test_links_are_followed_inside_alone(
    tree: Path, precious: Path, target: str, leads: str
) -> None:
    (tree / "file").write_text("inside")
    (tree / "sub").mkdir()
    (tree / "sub" / "other").write_text("inside")
    (tree / "sub" / "up").symlink_to("..")
    (tree / "sub" / "whole").symlink_to(tree / "file")
    (tree / "sub" / "out").symlink_to(precious)
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to(target)
    folder = Folder(tree)
    if leads == "in":
        with folder.open("link") as file:
            assert file.read() == b"inside"
    else:
        with pytest.raises(OSError) as caught:
            folder.open("link")
        assert isinstance(caught.value, LeadsOut) == (leads == "out")
    folder.close()


def test_what_was_found_is_what_is_opened_or_nothing(tree: Path, precious: Path) -> None:
    (tree / "a").mkdir()
    (tree / "a" / "file").write_text("found")
    folder = Folder(tree)
    expect = identity_of((tree / "a" / "file").stat())
    with folder.open("a/file", expect=expect) as file:
        assert file.read() == b"found"
    (tree / "a").rename(tree / "b")
    (tree / "a").symlink_to(precious)
    with pytest.raises(OSError):
        folder.open("a/key")
    (tree / "a").unlink()
    (tree / "a").mkdir()
    (tree / "a" / "file").write_text("other")
    with pytest.raises(OSError, match="another file"):
        folder.open("a/file", expect=expect)
    folder.close()


def test_no_descriptor_is_lost(tree: Path, precious: Path) -> None:
    (tree / "out").symlink_to(precious / "key")
    (tree / "file").touch()
    before = list(Path("/proc/self/fd").iterdir())
    folder = Folder(tree)
    for name in ("out", "none", "file/x"):
        with pytest.raises(OSError):
            folder.open(name)
    folder.open("file").close()
    with pytest.raises(OSError):
        folder.open("file", expect=(0, 0))
    folder.close()
    remove_tree(tree)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
    assert stat.S_ISDIR(precious.stat().st_mode)
