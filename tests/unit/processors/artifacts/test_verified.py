"""What was kept is given out as it was kept, or not at all."""

import asyncio
import hashlib
import itertools
import mmap
import os
import stat
from pathlib import Path

import pytest

from processors.artifacts import files, verified
from processors.artifacts.files import CHUNK_BYTES, FileStore, inline
from processors.artifacts.store import ArtifactDamaged, StoredArtifact

SMALL = b"0123456789"
LARGE = os.urandom(CHUNK_BYTES * 3)


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def content(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(files, "SMALL_BYTES_MAX", 1024)
    found: bytes = request.param
    return found


class Kept:
    """One artifact and where it lies."""

    def __init__(self, root: Path, content: bytes) -> None:
        self.store = FileStore(root, offload=inline)
        self.stored: StoredArtifact = asyncio.run(self.store.put(content, "lab/exe/1/a"))
        self.path = root / "lab/exe/1/a"

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        async def whole() -> bytes:
            chunks = self.store.open(self.stored.uri, start, end, sha256=self.stored.sha256)
            return b"".join([chunk async for chunk in chunks])

        return asyncio.run(whole())

    def overwrite(self, at: int = 3, byte: bytes = b"X") -> None:
        """Change one byte and put size and time of change back, as who wants to hide it does."""
        before = self.path.stat()
        self.path.chmod(0o600)
        with self.path.open("r+b") as file:
            file.seek(at)
            assert file.read(1) != byte
            file.seek(at)
            file.write(byte)
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.path.chmod(0o400)


def test_what_is_kept_is_its_users_alone_and_cannot_be_written(
    tmp_path: Path, content: bytes
) -> None:
    kept = Kept(tmp_path / "root", content)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o400
    folders = [tmp_path / "root", *(tmp_path / "root").glob("**/")]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    again = asyncio.run(kept.store.put(b"other", "lab/exe/1/a"))
    assert again.sha256 == hashlib.sha256(b"other").hexdigest(), "a repeat replaces it whole"


@pytest.mark.parametrize("is_read_before", [False, True])
def test_one_changed_byte_is_not_given_out(
    tmp_path: Path, content: bytes, *, is_read_before: bool
) -> None:
    kept = Kept(tmp_path, content)
    if is_read_before:
        assert kept.read(2, 9) == content[2:9]
    kept.overwrite()
    for start, end in ((0, None), (5, 9)):
        with pytest.raises(ArtifactDamaged):
            kept.read(start, end)


def test_a_file_that_is_replaced_or_cut_is_not_given_out(tmp_path: Path, content: bytes) -> None:
    kept = Kept(tmp_path, content)
    kept.read()
    kept.path.unlink()
    kept.path.write_bytes(content[:-1] + b"!")
    with pytest.raises(ArtifactDamaged):
        kept.read()
    kept.path.write_bytes(content[:-1])
    with pytest.raises(ArtifactDamaged):
        kept.read()


def test_a_large_file_that_changes_while_it_is_given_out_ends_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SMALL_BYTES_MAX", 1024)
    kept = Kept(tmp_path, LARGE)

    async def scene() -> None:
        chunks = kept.store.open(kept.stored.uri, sha256=kept.stored.sha256)
        assert await anext(chunks) == LARGE[:CHUNK_BYTES]
        kept.overwrite(at=CHUNK_BYTES * 2)
        assert await anext(chunks) == LARGE[CHUNK_BYTES : CHUNK_BYTES * 2]
        with pytest.raises(ArtifactDamaged):
            await anext(chunks)

    asyncio.run(scene())


def test_what_is_written_through_a_mapping_is_not_given_out(tmp_path: Path, content: bytes) -> None:
    """Such a write changes no time of the file once its page is marked as written to."""
    kept = Kept(tmp_path, content)
    kept.path.chmod(0o600)
    with kept.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5] = content[5]
        assert kept.read() == content
        mapped[5] = content[5] ^ 1
        for start, end, why in ((0, None, "written to"), (4, 9, "is not what was kept")):
            with pytest.raises(ArtifactDamaged, match=why if content is LARGE else None):
                kept.read(start, end)


def test_any_range_of_a_large_file_is_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SMALL_BYTES_MAX", 1024)
    kept = Kept(tmp_path, LARGE)
    edges = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LARGE) - 1, len(LARGE))
    for start, end in itertools.combinations_with_replacement(edges, 2):
        assert kept.read(start, end) == LARGE[start:end]


def test_digests_of_files_read_long_ago_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "CHUNKS_KNOWN_MAX", 5)
    known = verified.Verified()
    for name in "abc":
        file = tmp_path / name
        file.write_bytes(LARGE)
        with file.open("rb") as opened:
            known.check(opened, name, hashlib.sha256(LARGE).hexdigest())
    assert len(known._known) == 1


def test_a_large_file_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SMALL_BYTES_MAX", 1024)
    kept = Kept(tmp_path, LARGE)
    kept.read()
    monkeypatch.setattr(verified, "compare", lambda *_: pytest.fail("compared again"))
    assert kept.read() == LARGE
