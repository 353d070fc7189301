"""Whether a kept file still is what was kept. Never gives out a byte before that is known.

A small file is read whole, compared with its digest and given out from memory. A large one is
compared once; then its size, its times and its place on the disk stand for that, and are looked at
with each chunk: no write leaves them as they were, whatever the writer sets them to afterwards
(the time of change cannot be set).
"""

import hashlib
import os
from collections import OrderedDict
from typing import BinaryIO

from processors.artifacts.store import ArtifactDamaged

SMALL_BYTES_MAX = 4 * 1024 * 1024
"""Up to this a file is compared at each read."""
KNOWN_MAX = 10_000
"""Large files that are remembered as compared."""
CHUNK_BYTES = 1024 * 1024

Identity = tuple[int, int, int, int, int]


class Verified:
    """The large files of one store that were compared with their digests."""

    def __init__(self) -> None:
        self._known: OrderedDict[Identity, str] = OrderedDict()

    def check(self, file: BinaryIO, uri: str, sha256: str) -> Identity:
        """Return what to compare at each further look. Raises `ArtifactDamaged`. Blocks."""
        identity = identity_of(file)
        if self._known.get(identity) == sha256:
            self._known.move_to_end(identity)
            return identity
        digest = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        unchanged(file, uri, identity)
        compare(digest.hexdigest(), uri, sha256)
        self._known[identity] = sha256
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return identity


def identity_of(file: BinaryIO) -> Identity:
    """Return what changes whenever the content of a file does."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def unchanged(file: BinaryIO, uri: str, identity: Identity) -> None:
    """Return if nobody wrote to a file since. Raises `ArtifactDamaged`."""
    if identity_of(file) != identity:
        raise ArtifactDamaged(f"artifact {uri} was written to while it was read")


def compare(found: str, uri: str, sha256: str) -> None:
    """Return if a digest is the one that was kept. Raises `ArtifactDamaged`."""
    if found != sha256:
        raise ArtifactDamaged(
            f"artifact {uri} is not what was kept: its sha256 is {found}, not {sha256}"
        )
