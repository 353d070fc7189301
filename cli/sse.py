"""Reads a stream of server-sent events from bytes; never holds more than one bounded event."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SILENCE = ""
EVENT_BYTES_MAX = 16 * 1024 * 1024


class StreamBroken(Exception):
    """Raised when a stream is no stream of events this program can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event; `id` is what a client sends back to resume after it.

    With the name `SILENCE` it is a keep-alive: the server is there and has nothing to say.
    """

    id: str | None
    event: str
    data: str


def parse(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield each whole event; half an event at the end of the stream is dropped."""
    lines: list[bytes] = []
    size_bytes = 0
    for line in _lines(chunks):
        if line:
            size_bytes += len(line)
            if size_bytes > EVENT_BYTES_MAX:
                raise StreamBroken(f"an event has more than {EVENT_BYTES_MAX} bytes")
            lines.append(line)
            continue
        event = _event(lines)
        lines, size_bytes = [], 0
        if event is not None:
            yield event


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at LF, and take a CR before it away; our server sends nothing else."""
    waiting: list[bytes] = []
    waiting_bytes = 0
    for chunk in chunks:
        head, *rest = chunk.split(b"\n")
        waiting.append(head)
        waiting_bytes += len(head)
        if waiting_bytes > EVENT_BYTES_MAX:
            raise StreamBroken(f"a line has more than {EVENT_BYTES_MAX} bytes")
        if not rest:
            continue
        yield b"".join(waiting).removesuffix(b"\r")
        for line in rest[:-1]:
            yield line.removesuffix(b"\r")
        waiting, waiting_bytes = [rest[-1]], len(rest[-1])


def _event(lines: list[bytes]) -> ServerEvent | None:
    event_id: str | None = None
    name = "message"
    data: list[str] = []
    for line in lines:
        field, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"id" and "\0" not in value:
            event_id = value
    if not data and event_id is None:
        is_silence = bool(lines) and all(line.startswith(b":") for line in lines)
        return ServerEvent(id=None, event=SILENCE, data="") if is_silence else None
    return ServerEvent(id=event_id, event=name, data="\n".join(data))
