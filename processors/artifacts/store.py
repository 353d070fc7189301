"""What the rest of the code knows of an artifact store. Never says where or how it keeps bytes."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from events.errors import TeoError

KEY_CHARS_MAX = 1024
SEGMENT_BYTES_MAX = 255

Source = Path | bytes | Callable[[], BinaryIO]
"""What is stored: a file, the content itself, or what opens the file it is in."""


class ArtifactRefused(TeoError):
    """Raised when a key, a range or a source file is not one a store may take."""

    code = "artifact_refused"


class ArtifactMissing(TeoError):
    """Raised when a store has nothing under a URI, or the URI is not one of its own."""

    code = "artifact_missing"


class ArtifactDamaged(ArtifactMissing):
    """Raised when what is kept under a URI is not what was stored: what was is gone."""

    code = "artifact_damaged"


class ArtifactStoreUnavailable(TeoError):
    """Raised when a store cannot read or write now: full, away or refused by the system."""

    code = "artifact_store_unavailable"
    retriable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """What a store says of bytes it has made durable."""

    uri: str
    sha256: str
    size_bytes: int


class ArtifactStore(Protocol):
    """Keeps files under keys; what it acknowledged can be read until it is deleted.

    A key is a relative POSIX path. Putting the same key again replaces the whole content at once:
    a reader sees the old bytes or the new ones, never a mixture.
    """

    async def put(self, source: Source, key: str) -> StoredArtifact:
        """Store the content of `source` under `key`; return once it is durable.

        A file that grows is stored as long as it was when it was opened. Raises `ArtifactRefused`
        for a bad key or a source that is no regular file or cannot be read,
        `ArtifactStoreUnavailable` when the store cannot take it now.
        """
        ...

    def open(
        self, uri: str, start: int = 0, end: int | None = None, *, sha256: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to, not including, `end`, in chunks.

        With the digest of the whole content, not one byte comes of what has another: that raises
        `ArtifactDamaged`. Raises, at the first step, `ArtifactMissing`, or `ArtifactRefused` for a
        range outside.
        """
        ...

    async def size(self, uri: str) -> int:
        """Return the size in bytes. Raises `ArtifactMissing`."""
        ...


def check_key(key: str) -> str:
    """Return `key` if it names a place inside a store; raises `ArtifactRefused` if not."""
    segments = key.split("/")
    if (
        not key
        or len(key) > KEY_CHARS_MAX
        or any(segment in ("", ".", "..") for segment in segments)
        or any(len(segment.encode(errors="replace")) > SEGMENT_BYTES_MAX for segment in segments)
        or any(ord(char) < 0x20 or char in "\\\x7f" for char in key)
    ):
        raise ArtifactRefused(
            f"artifact key {key[:200]!r} is not a plain relative path of at most "
            f"{KEY_CHARS_MAX} characters: rename the file and run again"
        )
    return key
