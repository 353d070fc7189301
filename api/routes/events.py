"""The event stream: the journal as it happens, or from any point on."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from starlette.responses import Response

from api.call import Call
from api.encoding import parse_vector, vector_text
from api.hub import Frame, Listener
from api.models.queries import EventsQuery
from api.operations import Operation
from api.problems import Problem
from api.routes.benches import words
from api.sse import KEEP_ALIVE, MEDIA_TYPE, EventStream, id_only
from events import facts
from events.log import Partition
from projections.feed import history


async def stream_events(call: Call) -> Response:
    """Server-sent events of the journal; `Last-Event-ID` resumes."""
    query = call.query_as(EventsQuery)
    service = call.service
    service.streams.admit()
    known = {kind.__name__ for kind in facts.Event.__args__}
    types = frozenset(words(query.type))
    unknown = sorted(types - known)
    if unknown:
        detail = f"no event has the type {', '.join(unknown)}; types: {', '.join(sorted(known))}"
        raise Problem(422, "invalid_type", detail)
    health = await service.reads.health()
    if not health.is_live:
        detail = f"the journal is not read now ({health.detail}); try again in a moment"
        raise Problem(503, "log_unavailable", detail, headers={"Retry-After": "2"})
    starts = await _starts(call, query)
    stream = _Stream(call, starts, pool=query.pool, types=types)
    return EventStream(stream.frames(), service.streams)


async def _starts(call: Call, query: EventsQuery) -> Mapping[int, int]:
    """Return for each partition wanted the offset of the first event wanted."""
    deps = call.service.deps
    topic = deps.topics.events
    count = await deps.log.partitions(topic)
    numbers = range(count)
    if query.pool is not None:
        numbers = range(at := deps.log.partition_for(query.pool.encode(), count), at + 1)
    last = call.request.headers.get("last-event-id", "")
    if last:
        vector = parse_vector(last)
        if vector is None or any(number >= count for number in vector):
            detail = f"Last-Event-ID {last!r} is none of this stream; leave it out to begin anew"
            raise Problem(422, "invalid_last_event_id", detail)
        return {number: vector[number] + 1 if number in vector else 0 for number in numbers}
    if query.start == "beginning":
        begins = await deps.log.begins([Partition(topic, number) for number in numbers])
        return {partition.number: begin for partition, begin in begins.items()}
    reached = deps.feed.ends()
    return {number: reached.get(number, 0) for number in numbers}


class _Stream:
    """One client's way through the journal."""

    def __init__(
        self, call: Call, starts: Mapping[int, int], *, pool: str | None, types: frozenset[str]
    ) -> None:
        self._service = call.service
        self._next = dict(starts)
        """For each partition the offset that is due."""
        self._pool = pool
        self._types = types

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield what there is, then what comes."""
        deps = self._service.deps
        keep_alive_s = deps.settings.sse_keep_alive_s
        # From where a client begins is told first, so that one that is cut off before its first
        # event misses none.
        yield self._resume()
        with self._service.hub.listening() as listener:
            reached = deps.feed.ends()
            ends = {number: reached.get(number, 0) for number in self._next}
            older = history(deps.log, deps.topics.events, dict(self._next), ends)
            async with aclosing(older) as parts:
                async for changes in parts:
                    chunk = self._taken([Frame(change) for change in changes])
                    if chunk:
                        yield chunk
            async for chunk in self._live(listener, keep_alive_s):
                yield chunk

    async def _live(self, listener: Listener, keep_alive_s: float) -> AsyncGenerator[bytes, None]:
        while not listener.is_dropped:
            frames = await listener.next(wait_s=keep_alive_s)
            chunk = self._taken(frames)
            if chunk:
                yield chunk
            elif not frames and not listener.is_dropped:
                # The id moves on although nothing was for this client: it resumes from here.
                yield KEEP_ALIVE + self._resume()

    def _taken(self, frames: Sequence[Frame]) -> bytes:
        """Return what is new and wanted of `frames`."""
        joined = bytearray()
        for frame in frames:
            number, offset = frame.position
            due = self._next.get(number)
            if due is None or offset < due:
                continue
            self._next[number] = offset + 1
            if self._pool is not None and frame.message.meta.pool != self._pool:
                continue
            if self._types and frame.type not in self._types:
                continue
            joined += self._id() + frame.data
        return bytes(joined)

    def _id(self) -> bytes:
        return b"id: " + self._vector().encode() + b"\n"

    def _resume(self) -> bytes:
        vector = self._vector()
        return id_only(vector) if vector else b""

    def _vector(self) -> str:
        """Return the position of the last event of each partition that has one."""
        return vector_text({n: due - 1 for n, due in self._next.items() if due > 0})


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/events",
        name="streamEvents",
        summary="Follow the journal",
        handler=stream_events,
        tag="Events",
        query=EventsQuery,
        media={
            MEDIA_TYPE: "`id: PARTITION:OFFSET[,…]`, `event: TYPE`, "
            '`data: {"meta": {…}, "type": …, "data": {…}}`; `Last-Event-ID` resumes.'
        },
        problems=(422, 503),
    ),
)
