"""The file store keeps what it acknowledged, whole, and stays within its root."""

import asyncio
import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from processors.artifacts.files import CHUNK_BYTES, FileStore, inline
from processors.artifacts.store import (
    ArtifactMissing,
    ArtifactRefused,
    ArtifactStore,
    ArtifactStoreUnavailable,
    Source,
    StoredArtifact,
)

BIG = os.urandom(CHUNK_BYTES * 2 + 17)


def store_at(root: Path) -> ArtifactStore:
    return FileStore(root, offload=inline)


def put(store: ArtifactStore, source: Source, key: str) -> StoredArtifact:
    return asyncio.run(store.put(source, key))


def read(store: ArtifactStore, uri: str, start: int = 0, end: int | None = None) -> bytes:
    async def whole() -> bytes:
        return b"".join([chunk async for chunk in store.open(uri, start, end)])

    return asyncio.run(whole())


@pytest.mark.parametrize("is_file", [True, False])
def test_what_is_put_is_read(tmp_path: Path, is_file: bool) -> None:
    store = store_at(tmp_path / "root")
    (tmp_path / "source").write_bytes(BIG)
    stored = put(store, tmp_path / "source" if is_file else BIG, "lab/exe 1/%/log.txt")
    assert stored.sha256 == hashlib.sha256(BIG).hexdigest()
    assert stored.size_bytes == len(BIG)
    assert read(store, stored.uri) == BIG
    assert asyncio.run(store.size(stored.uri)) == len(BIG)
    moved = tmp_path / "moved"
    (tmp_path / "root").rename(moved)
    assert read(store_at(moved), stored.uri) == BIG, "a URI does not name the folder"


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (5, 9), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (9, None)]
)
def test_ranges(tmp_path: Path, start: int, end: int | None) -> None:
    store = store_at(tmp_path)
    uri = put(store, BIG, "a").uri
    assert read(store, uri, start, end) == BIG[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 11), (11, None)])
def test_ranges_outside_are_refused(tmp_path: Path, start: int, end: int | None) -> None:
    store = store_at(tmp_path)
    uri = put(store, b"0123456789", "a").uri
    with pytest.raises(ArtifactRefused, match="bytes"):
        read(store, uri, start, end)


def test_putting_again_replaces_and_leaves_no_rest(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    put(store, b"old", "d/a")
    uri = put(store, b"new", "d/a").uri
    assert read(store, uri) == b"new"
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\0b", "a\\b", "a\nb", "x" * 1025, "\xe9" * 200],
)
def test_keys_that_lead_elsewhere_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ArtifactRefused, match="not a plain relative path"):
        put(store_at(tmp_path), b"x", key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    [
        "teo-file:no/such",
        "teo-file:../secret",
        "teo-file:%2e%2e/secret",
        "file:///etc/passwd",
        "",
        "teo-file:d",
    ],
)
def test_what_is_not_there_is_missing(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    with pytest.raises(ArtifactMissing):
        read(store_at(root), uri)
    with pytest.raises(ArtifactMissing):
        asyncio.run(store_at(root).size(uri))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_only_regular_files_are_taken(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    (tmp_path / "secret").write_text("s")
    match kind:
        case "link":
            source.symlink_to(tmp_path / "secret")
        case "pipe":
            os.mkfifo(source)
        case "folder":
            source.mkdir()
    with pytest.raises(ArtifactRefused, match="source"):
        put(store_at(tmp_path / "root"), source, "a")


def test_a_file_that_grows_is_stored_as_long_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10)

    class Growing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            with source.open("ab") as more:
                more.write(b"y" * 10)
            return super().read(size) or b""

    stored = put(store_at(tmp_path / "root"), lambda: Growing(source), "a")  # type: ignore[arg-type, return-value]
    assert stored.size_bytes == 10


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.seek(64 << 20)
        file.write(b"x")
        file.truncate(100 << 20)
    store = store_at(tmp_path / "root")
    stored = put(store, source, "a")
    assert stored.size_bytes == 100 << 20
    assert (tmp_path / "root" / "a").stat().st_blocks * 512 < 4 << 20
    assert stored.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert read(store, stored.uri, 64 << 20, (64 << 20) + 2) == b"x\0"


def test_what_cannot_be_opened_is_refused_and_a_name_too_long_too(tmp_path: Path) -> None:
    def gone() -> BinaryIO:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ArtifactRefused, match="Permission denied"):
        put(store_at(tmp_path / "root"), gone, "a")
    deep = tmp_path.joinpath(*["n" * 200] * 18)
    with pytest.raises(ArtifactRefused, match="takes no name as long"):
        put(store_at(deep), b"x", "k" * 250 + "/" + "k" * 250)


def test_a_link_in_the_store_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactMissing):
        read(store_at(tmp_path / "root"), "teo-file:a")


def test_a_store_that_cannot_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the folder should be")
    with pytest.raises(ArtifactStoreUnavailable, match="cannot store 'a'"):
        put(store_at(tmp_path / "root"), b"x", "d/a")


def test_it_works_beside_the_loop_too(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert read(store, put(store, BIG, "a").uri) == BIG
