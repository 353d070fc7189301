"""What one connection may cost before anybody knows whose it is: bytes, time, requests, a place.

uvicorn's own protocol keeps a header without end, queues pipelined requests without end, and never
closes a connection that says nothing. Here each of these has a limit; nothing is held beyond it.
"""

import asyncio
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from opentelemetry import metrics
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.limits import (
    BODY_LEFT_S_MAX,
    CONNECTIONS_MAX,
    FILES_KEPT_FREE,
    FILES_WANTED,
    HEAD_BYTES_MAX,
    HEAD_S_MAX,
    PIPELINE_MAX,
    STALLED_S_MAX,
)

log = structlog.get_logger()

_CLOSED = metrics.get_meter("teo.api").create_counter(
    "teo_api_connections_closed", description="Connections closed for a limit, by reason."
)


def connections_max() -> int:
    """Return how many connections this process may hold, after asking for more open files.

    Files for the log, the read models and artifacts are kept free.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = wanted if soft == resource.RLIM_INFINITY else soft
    return max(1, min(CONNECTIONS_MAX, files - FILES_KEPT_FREE, files // 2))


class Doors:
    """All connections of one server; one that does nothing gives its place to one that comes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[BoundedProtocol] = set()
        self._idle: dict[BoundedProtocol, None] = {}
        """Connections with no request under way, the one that is so for longest first."""

    def opened(self, connection: "BoundedProtocol") -> bool:
        """Take a connection in; False if all there are have a request under way."""
        if len(self._open) >= self._most:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return False
            oldest.close("place")
            self.closed(oldest)
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def closed(self, connection: "BoundedProtocol") -> None:
        """Forget a connection. Idempotent."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: "BoundedProtocol") -> None:
        """Note that a request of it is under way."""
        self._idle.pop(connection, None)

    def idle(self, connection: "BoundedProtocol") -> None:
        """Note that nothing is under way on it."""
        if connection in self._open:
            self._idle[connection] = None


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within limits.

    A request goes through three states, each with its timer: its head is read (`HEAD_S_MAX` from
    the connection or the head's first byte, `HEAD_BYTES_MAX`), its body is read (a client that
    sends on after its answer has `BODY_LEFT_S_MAX`), then it is silent (uvicorn's keep-alive).
    While bytes of ours wait to be taken, `STALLED_S_MAX` counts beside them.
    """

    def __init__(self, doors: Doors, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._doors = doors
        self._reads_head = True
        self._has_ended_one = False
        """True if a request ended within the data being fed."""
        self._head_bytes = 0
        self._reading: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client in, or turn it away where there is no place."""
        super().connection_made(transport)
        if not self._doors.opened(self):
            self._refuse(503, "all connections are in use; try again in a moment", "full")
            return
        self._expect(HEAD_S_MAX, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._doors.closed(self)
        self._expect_nothing()
        self._set_stalled(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as the client keeps to the limits."""
        if self.transport.is_closing():
            return
        self._has_ended_one = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._reads_head and not self._has_ended_one:
            if self._reading is None and self.timeout_keep_alive_task is None and self._is_idle:
                self._expect(HEAD_S_MAX, self._head_is_late)  # Empty lines between requests.
            # A head that ends is looked at by the edge; this is for one that goes on and on. What
            # came with the end of the request before is not counted: it is one read at most.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                text = f"the head is over {HEAD_BYTES_MAX} bytes; send fewer headers"
                self._refuse(431, text, "head_bytes")
        if len(self.pipeline) > PIPELINE_MAX:
            text = f"more than {PIPELINE_MAX} requests wait on this connection; read the answers"
            self._refuse(429, text, "pipeline")

    def on_message_begin(self) -> None:
        """Count the time from the first byte of a head."""
        self._expect(HEAD_S_MAX, self._head_is_late)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._reads_head, self._head_bytes = False, 0
        self._doors.busy(self)
        self._expect(BODY_LEFT_S_MAX, self._body_is_late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Be ready for the next request."""
        self._reads_head = self._has_ended_one = True
        self._expect_nothing()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note when nothing is under way any more."""
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            self._doors.idle(self)

    def pause_writing(self) -> None:
        """Count how long the client takes nothing."""
        super().pause_writing()
        self._set_stalled(self.loop.call_later(STALLED_S_MAX, self.close, "stalled"))

    def resume_writing(self) -> None:
        """The client takes what it is given."""
        self._set_stalled(None)
        super().resume_writing()

    def close(self, why: str) -> None:
        """End the connection at once, whatever is under way."""
        if not self.transport.is_closing():
            _CLOSED.add(1, {"reason": why})
            with suppress(OSError, AttributeError):
                # The kernel drops what it still holds for a client that takes nothing.
                socket_ = self.transport.get_extra_info("socket")
                socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

    @property
    def _is_idle(self) -> bool:
        """True if no answer is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _head_is_late(self) -> None:
        if self._head_bytes:
            self._refuse(408, f"the head did not arrive within {HEAD_S_MAX:.0f} s", "head_time")
        else:
            self.close("silent")

    def _body_is_late(self) -> None:
        """Close if the answer is out already; else whoever reads the body has its own limit."""
        if self._is_idle:
            self.close("body_time")
        else:
            self._expect(BODY_LEFT_S_MAX, self._body_is_late)

    def _refuse(self, status: int, text: str, why: str) -> None:
        """Say why in a few words, if no answer is under way, and end the connection."""
        _CLOSED.add(1, {"reason": why})
        if self._is_idle:
            body = f'{{"status":{status},"code":"{why}","detail":"{text}"}}'.encode()
            head = (
                f"HTTP/1.1 {status} {_PHRASES[status]}\r\nconnection: close\r\n"
                f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()
        else:
            self.transport.abort()

    def _expect(self, limit_s: float, late: Callable[[], None]) -> None:
        self._expect_nothing()
        self._reading = self.loop.call_later(limit_s, late)

    def _expect_nothing(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _set_stalled(self, timer: asyncio.TimerHandle | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = timer


_NO_LINGER = struct.pack("ii", 1, 0)
_PHRASES = {
    408: "Request Timeout",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
