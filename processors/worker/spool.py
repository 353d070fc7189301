"""Records that wait for the log, in order, in a file: memory holds where they are, not what.

Belongs to one life of a worker: a later life may count what was left, never send it.
"""

import contextlib
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from events.errors import TeoError
from events.log import Outgoing

log = structlog.get_logger()
_FRAME = struct.Struct(">II")
_LENGTH = struct.Struct(">I")
TRUNCATE_BYTES = 1024 * 1024
"""An empty spool whose file is longer than this starts from 0 again."""


class SpoolDamaged(TeoError):
    """Raised when the disk does not give back a report that waits: its life is over."""

    code = "spool_damaged"


@dataclass(frozen=True, slots=True)
class _Waiting:
    offset: int
    length: int
    payload: bytes | None
    """The bytes themselves, when the disk would not take them."""


class Spool:
    """A queue of records on disk. When the disk is full it goes on in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._end = 0
        self._waiting: deque[_Waiting] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, record: Outgoing) -> None:
        """Put `record` last."""
        payload = _pack(record)
        offset = self._write(payload)
        kept = payload if offset is None else None
        self._waiting.append(_Waiting(offset or 0, len(payload), kept))
        self.size_bytes += len(payload)

    def peek(self, *, records_max: int, bytes_max: int) -> Sequence[Outgoing]:
        """Return the first records, at least one if any waits."""
        batch: list[Outgoing] = []
        taken = 0
        for each in self._waiting:
            if batch and (len(batch) >= records_max or taken + each.length > bytes_max):
                break
            batch.append(_unpack(self._read(each)))
            taken += each.length
        return batch

    def drop(self, count: int) -> None:
        """Take the first `count` records out."""
        for _ in range(count):
            self.size_bytes -= self._waiting.popleft().length
        if not self._waiting and self._file is not None and self._end > TRUNCATE_BYTES:
            self._file.truncate(0)
            self._end = 0

    def close(self) -> None:
        """Close and remove the file. Idempotent."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # The next life drops what stays.
                self._file.close()
                self._path.unlink(missing_ok=True)
            self._file = None

    def _write(self, payload: bytes) -> int | None:
        """Return where `payload` now is in the file; None: the disk refused it."""
        try:
            if self._file is None:
                self._file = self._path.open("x+b", buffering=0)
            frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
            self._file.seek(self._end)
            if self._file.write(frame) != len(frame):
                raise OSError("short write")  # noqa: TRY301 - one way out for a full disk.
        except OSError as error:
            log.warning("worker.spool_in_memory", error=str(error))
            return None
        offset = self._end + _FRAME.size
        self._end += len(frame)
        return offset

    def _read(self, waiting: _Waiting) -> bytes:
        if waiting.payload is not None:
            return waiting.payload
        assert self._file is not None
        try:
            self._file.seek(waiting.offset - _FRAME.size)
            frame = self._file.read(_FRAME.size + waiting.length)
        except OSError as error:
            raise SpoolDamaged(f"{self._path} cannot be read: {error}") from error
        payload = frame[_FRAME.size :]
        if frame != _FRAME.pack(waiting.length, zlib.crc32(payload)) + payload:
            raise SpoolDamaged(f"{self._path} is not what was written to it")
        return payload


def count_left(path: Path) -> int:
    """Return how many whole records an earlier life wrote to its spool; a torn tail is none."""
    count = 0
    with path.open("rb") as file:
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, checksum = _FRAME.unpack(head)
            payload = file.read(length)
            if len(payload) != length or zlib.crc32(payload) != checksum:
                break
            count += 1
    return count


def _pack(record: Outgoing) -> bytes:
    assert record.key is not None
    assert record.value is not None
    parts = [record.topic.encode(), record.key, record.value]
    for name, value in record.headers.items():
        parts += [name.encode(), value]
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _unpack(payload: bytes) -> Outgoing:
    topic, key, value, *headers = _parts(payload)
    names = (name.decode() for name in headers[::2])
    return Outgoing(
        topic=topic.decode(),
        key=key,
        value=value,
        headers=dict(zip(names, headers[1::2], strict=True)),
    )


def _parts(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        yield payload[at : at + length]
        at += length
