"""An artifact store in a folder of this machine. Never reads or writes outside its root."""

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import quote, unquote

from events import durable
from processors.artifacts.store import (
    ArtifactDamaged,
    ArtifactMissing,
    ArtifactRefused,
    ArtifactStoreUnavailable,
    Source,
    StoredArtifact,
    check_key,
)
from processors.artifacts.verified import (
    CHUNK_BYTES,
    SMALL_BYTES_MAX,
    Chunks,
    Verified,
    compare,
)

COMPARING_MAX = 2
"""Large files compared with their digests at once: it takes a processor and the disk."""
FILE_MODE, FOLDER_MODE = 0o400, 0o700
"""What is kept is read by its user alone, and written by nobody."""
_HOLE = bytes(CHUNK_BYTES)
SCHEME = "teo-file:"
"""A URI names the key, not the folder: the folder may move and be mounted elsewhere."""

T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking file work so that the caller's loop goes on, or at once in a simulation."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def inline(work: Callable[[], T], /) -> T:
    """Do `work` in the loop itself: for a simulation, which must not have threads."""
    await asyncio.sleep(0)
    return work()


class FileStore:
    """Keeps each artifact as one file under `root`; satisfies `ArtifactStore`."""

    def __init__(self, root: Path, *, offload: Offload = asyncio.to_thread) -> None:
        self._root = root
        self._offload = offload
        self._puts = 0
        self._verified = Verified()
        self._comparing = asyncio.Semaphore(COMPARING_MAX)

    async def put(self, source: Source, key: str) -> StoredArtifact:
        """Store the content of `source` under `key`; return once it is durable."""
        target = self._root / check_key(key)
        self._puts += 1
        part = target.with_name(f".{os.getpid()}-{self._puts}.part")
        sha256, size_bytes = await self._offload(lambda: _write(source, target, part))
        return StoredArtifact(uri=SCHEME + quote(key), sha256=sha256, size_bytes=size_bytes)

    async def size(self, uri: str) -> int:
        """Return the size in bytes. Raises `ArtifactMissing`."""

        def measure() -> int:
            with _opened(self._path(uri), uri) as file:
                return os.fstat(file.fileno()).st_size

        return await self._offload(measure)

    async def open(
        self, uri: str, start: int = 0, end: int | None = None, *, sha256: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to, not including, `end`, in chunks."""
        path = self._path(uri)
        file = await self._offload(lambda: _open(path, uri))
        try:
            chunks = None
            if sha256 and os.fstat(file.fileno()).st_size <= SMALL_BYTES_MAX:
                file = await self._offload(lambda: _checked_copy(file, uri, sha256))
            elif sha256:
                async with self._comparing:
                    chunks = await self._offload(lambda: self._verified.check(file, uri, sha256))
            at, stop = _span(file, uri, start, end)
            while at < stop:
                chunk = await self._offload(partial(_read, file, uri, at, stop, chunks))
                if not chunk:
                    left = stop - at
                    raise ArtifactMissing(f"artifact {uri} ended {left} bytes early: it was cut")
                at += len(chunk)
                yield chunk
        except ArtifactDamaged:
            self._verified.forget(file)
            raise
        finally:
            file.close()

    def _path(self, uri: str) -> Path:
        if not uri.startswith(SCHEME):
            raise ArtifactMissing(f"artifact {uri!r} is not in this store, whose URIs are {SCHEME}")
        key = unquote(uri.removeprefix(SCHEME))
        try:
            return self._root / check_key(key)
        except ArtifactRefused as error:
            raise ArtifactMissing(f"artifact {uri!r} names no place in this store") from error


def _write(source: Source, target: Path, part: Path) -> tuple[str, int]:
    """Copy to `part`, make it durable, rename it to `target`; return hash and size."""
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        durable.make_folder(target.parent, mode=FOLDER_MODE)
        with open(part, "xb", opener=_read_only) as file:
            for chunk in _chunks(source):
                digest.update(chunk)
                size_bytes += len(chunk)
                if chunk == _HOLE[: len(chunk)]:
                    # A test may leave gigabytes of nothing, which cost its disk nothing either.
                    file.seek(len(chunk), os.SEEK_CUR)
                else:
                    file.write(chunk)
            file.truncate(size_bytes)
        durable.replace(part, target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # No later try would change that.
            raise ArtifactRefused(f"the store takes no name as long as {target.name!r}") from error
        raise ArtifactStoreUnavailable(f"cannot store {target.name!r}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return digest.hexdigest(), size_bytes


def _read_only(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with _opened_source(source) as file:
        # Whoever still writes it must not keep us reading for ever.
        left = os.fstat(file.fileno()).st_size
        while chunk := file.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk


def _opened_source(source: Path | Callable[[], BinaryIO]) -> BinaryIO:
    if isinstance(source, Path):
        return open_regular(source)
    try:
        return source()
    except OSError as error:
        raise ArtifactRefused(f"it cannot be read: {error.strerror}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, not a link, pipe or device: a test may have left any of these."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactRefused(f"{path.name!r} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactRefused(f"{path.name!r} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _open(path: Path, uri: str) -> BinaryIO:
    try:
        return open_regular(path)
    except ArtifactRefused as error:
        raise ArtifactMissing(f"artifact {uri} is not in the store: {error}") from error


@contextlib.contextmanager
def _opened(path: Path, uri: str) -> Iterator[BinaryIO]:
    with _open(path, uri) as file:
        yield file


def _checked_copy(file: BinaryIO, uri: str, sha256: str) -> BinaryIO:
    """Return a file's content, read once, if it has the digest; the file is closed."""
    with file:
        content = file.read()
    compare(hashlib.sha256(content).hexdigest(), uri, sha256)
    return io.BytesIO(content)


def _read(file: BinaryIO, uri: str, at: int, stop: int, chunks: Chunks | None) -> bytes:
    if chunks is not None:
        return chunks.read(file, uri, at)[: stop - at]
    file.seek(at)
    return file.read(min(stop - at, CHUNK_BYTES))


def _span(file: BinaryIO, uri: str, start: int, end: int | None) -> tuple[int, int]:
    size = file.seek(0, os.SEEK_END)
    stop = size if end is None else end
    if not 0 <= start <= stop <= size:
        raise ArtifactRefused(f"bytes {start}-{stop} are not in {uri}, which has {size}")
    return start, stop
