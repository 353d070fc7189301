"""Whether a kept file still is what was kept. Never gives out a byte before that is known.

A small file is read whole, compared with its digest and given out from memory. A large one is
compared once, and digests of its chunks are noted meanwhile: each chunk is compared with its own
before it is given out. Size, times and place on the disk only say when all of it is to be compared
again: who writes through a mapping changes none of them.
"""

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import BinaryIO

from processors.artifacts.store import ArtifactDamaged

SMALL_BYTES_MAX = 4 * 1024 * 1024
"""Up to this a file is compared at each read."""
CHUNK_BYTES = 256 * 1024
CHUNKS_KNOWN_MAX = 1 << 20
"""Chunks of large files whose digests are remembered: those of 256 GiB, in 16 MiB."""
_DIGEST_BYTES = 16

Identity = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Chunks:
    """The digests of a file's chunks, one after the other, and that of all of it."""

    sha256: str
    digests: bytes

    def read(self, file: BinaryIO, uri: str, at: int) -> bytes:
        """Return the chunk `at` is in, from there to its end. Raises `ArtifactDamaged`. Blocks."""
        number, before = divmod(at, CHUNK_BYTES)
        file.seek(number * CHUNK_BYTES)
        chunk = file.read(CHUNK_BYTES)
        if _digest(chunk) != self.digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]:
            raise ArtifactDamaged(f"artifact {uri} was written to while it was read")
        return chunk[before:]


class Verified:
    """The large files of one store that were compared with their digests."""

    def __init__(self) -> None:
        self._known: OrderedDict[Identity, Chunks] = OrderedDict()

    def check(self, file: BinaryIO, uri: str, sha256: str) -> Chunks:
        """Return what each chunk is to be compared with. Raises `ArtifactDamaged`. Blocks."""
        identity = identity_of(file)
        known = self._known.get(identity)
        if known is not None and known.sha256 == sha256:
            self._known.move_to_end(identity)
            return known
        whole, digests = hashlib.sha256(), bytearray()
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
            digests += _digest(chunk)
        compare(whole.hexdigest(), uri, sha256)
        chunks = Chunks(sha256, bytes(digests))
        self._remember(identity, chunks)
        return chunks

    def forget(self, file: BinaryIO) -> None:
        """Have a file compared whole at its next read: it is not what it was."""
        if not file.closed:
            self._known.pop(identity_of(file), None)

    def _remember(self, identity: Identity, chunks: Chunks) -> None:
        self._known[identity] = chunks
        while len(self._known) > 1 and self._count() > CHUNKS_KNOWN_MAX:
            self._known.popitem(last=False)

    def _count(self) -> int:
        return sum(len(each.digests) for each in self._known.values()) // _DIGEST_BYTES


def identity_of(file: BinaryIO) -> Identity:
    """Return what changes with most writes to a file, whatever its times are set to afterwards."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def compare(found: str, uri: str, sha256: str) -> None:
    """Return if a digest is the one that was kept. Raises `ArtifactDamaged`."""
    if found != sha256:
        raise ArtifactDamaged(
            f"artifact {uri} is not what was kept: its sha256 is {found}, not {sha256}"
        )


def _digest(chunk: bytes) -> bytes:
    return hashlib.blake2b(chunk, digest_size=_DIGEST_BYTES).digest()
