"""Server-sent events: one long answer of frames. Never keeps a client that takes nothing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any

import structlog
from opentelemetry import metrics
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.encoding import dumps
from api.ending import end
from api.limits import SSE_END_S_MAX, SSE_SEND_S_MAX
from events.errors import TeoError

log = structlog.get_logger()
KEEP_ALIVE = b": keep-alive\n\n"
MEDIA_TYPE = "text/event-stream"

_CLIENTS = metrics.get_meter("teo.api").create_up_down_counter(
    "teo_api_sse_clients", description="Event streams that are open."
)


def frame(event: str, data: Mapping[str, Any], *, event_id: str | None = None) -> bytes:
    """Return one event as the stream has it."""
    head = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return head + b"event: " + event.encode() + b"\ndata: " + dumps(data) + b"\n\n"


def id_only(event_id: str) -> bytes:
    """Return a frame that only tells where to resume; clients see no event."""
    return b"id: " + event_id.encode() + b"\n\n"


class EventStream(Response):
    """An answer that goes on until the frames end, the client leaves or the server stops.

    `place` is held while it is open.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        place: AbstractContextManager[None],
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            media_type=MEDIA_TYPE,
        )
        del self.headers["content-length"]
        self._frames = frames
        self._place = place
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames; end them when the client is gone."""
        del scope
        _CLIENTS.add(1)
        try:
            with self._place:
                await self._serve(receive, send)
        finally:
            _CLIENTS.add(-1)

    async def _serve(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(_gone(receive))
            tasks = [
                gone,
                group.create_task(self._pump(send)),
                group.create_task(_set(self._stopping)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                is_there = not gone.done()
            finally:
                await end(tasks)
        if is_there:
            await _sent(send, b"", more=False, send_s_max=SSE_END_S_MAX)

    async def _pump(self, send: Send) -> None:
        try:
            async with aclosing(self._frames) as frames:
                async for chunk in frames:
                    if not await _sent(send, chunk, more=True, send_s_max=SSE_SEND_S_MAX):
                        return
        except TeoError as error:
            # The head is sent: all that is left is to end, so that the client resumes.
            log.warning("sse.ended_early", error=str(error))


async def _sent(send: Send, chunk: bytes, *, more: bool, send_s_max: float) -> bool:
    """Send within the limit; False if the client took nothing or is gone."""
    try:
        async with asyncio.timeout(send_s_max):
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
    except TimeoutError:
        log.info("sse.client_dropped", stalled_s=send_s_max)
        return False
    except OSError:
        return False
    return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()
