"""What is downloaded lands in its folder under its name, whole, or not at all."""

from pathlib import Path

import pytest

from cli.downloads import DownloadFolder
from cli.problems import Problem


def put(folder: DownloadFolder, name: str, data: bytes = b"new") -> None:
    with folder.file(name) as file:
        file.write(data)


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_a_file_of_before_is_replaced_and_one_of_this_download_is_not(tmp_path: Path) -> None:
    """So it is where names differ by case alone, and the file system does not tell them apart."""
    (tmp_path / "a").write_text("old")
    with DownloadFolder(tmp_path) as folder:
        for data in (b"one", b"two", b"three"):
            put(folder, "a", data)
    found = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    assert found == {"a": b"one", "a~2": b"two", "a~3": b"three"}
    with DownloadFolder(tmp_path) as folder:
        put(folder, "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_that_failed_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with (
        DownloadFolder(tmp_path) as folder,
        pytest.raises(ZeroDivisionError),
        folder.file("a") as file,
    ):
        file.write(bytes(1 // 0))
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("name", ["", ".", "/", "/a", "..", "a/..", "../a", "a\0"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with DownloadFolder(tmp_path / "d") as folder, pytest.raises(Problem, match="outside"):
        put(folder, name)
    assert names_in(tmp_path) == ["d"]
    assert names_in(tmp_path / "d") == []


def test_links_and_files_in_the_way_are_told(tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    (target / "file").write_text("x")
    with DownloadFolder(target) as folder:
        for name in ("link/a", "file/a"):
            with pytest.raises(Problem, match="in its way"):
                put(folder, name)
    with pytest.raises(Problem, match="cannot be written"):
        DownloadFolder(target / "file")
    assert names_in(tmp_path) == ["d"]


def test_the_folder_may_be_reached_by_a_link_of_the_user_s_own(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with DownloadFolder(tmp_path / "link") as folder:
        put(folder, "a/b/c")
    assert (tmp_path / "real" / "a" / "b" / "c").read_bytes() == b"new"
