"""The event stream: the journal as it happens, or from any point on."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence

from starlette.responses import Response

from api.call import Call
from api.encoding import parse_vector, vector_text
from api.hub import Frame, Listener
from api.limits import PAST_LEFT_FOR_LIVE, SSE_CHUNK_BYTES
from api.models.queries import EventsQuery
from api.operations import Operation
from api.past import Block, Ready, start_of
from api.problems import Problem
from api.routes.benches import words
from api.sse import KEEP_ALIVE, MEDIA_TYPE, EventStream, id_only
from events import facts
from events.log import Partition, Position


async def stream_events(call: Call) -> Response:
    """Server-sent events of the journal; `Last-Event-ID` resumes."""
    query = call.query_as(EventsQuery)
    service = call.service
    service.streams.admit(call.actor.actor)
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
    begins = await _begins(call, starts)
    stream = _Stream(call, starts, begins, pool=query.pool, types=types)
    place = service.streams.place(call.actor.actor)
    return EventStream(stream.frames(), place=place, stopping=service.deps.stopping)


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
        return await _begins(call, numbers)
    reached = deps.feed.ends()
    return {number: reached.get(number, 0) for number in numbers}


async def _begins(call: Call, numbers: Iterable[int]) -> Mapping[int, int]:
    """Return for each partition the offset of the first event that is kept."""
    deps = call.service.deps
    partitions = [Partition(deps.topics.events, number) for number in numbers]
    return {each.number: begin for each, begin in (await deps.log.begins(partitions)).items()}


class _Stream:
    """One client's way through the journal."""

    def __init__(
        self,
        call: Call,
        starts: Mapping[int, int],
        begins: Mapping[int, int],
        *,
        pool: str | None,
        types: frozenset[str],
    ) -> None:
        self._service = call.service
        self._begins = begins
        """For each partition the offset of the first event that is kept."""
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
        # Most of the past is read before it listens: else what comes meanwhile would be too much.
        while self._behind(deps.feed.ends()) > PAST_LEFT_FOR_LIVE:
            async for chunk in self._past(deps.feed.ends(), keep_alive_s):
                yield chunk
        with self._service.hub.listening() as listener:
            async for chunk in self._past(deps.feed.ends(), keep_alive_s):
                yield chunk
            async for chunk in self._live(listener, keep_alive_s):
                yield chunk

    def _behind(self, ends: Mapping[int, int]) -> int:
        """Return how many offsets are due before `ends`."""
        return sum(max(0, ends.get(number, 0) - due) for number, due in self._next.items())

    async def _past(
        self, ends: Mapping[int, int], keep_alive_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Yield what stands before `ends`: a block of each partition in turns."""
        places = {
            number: Position(number, max(self._begins.get(number, 0), start_of(due)))
            for number, due in self._next.items()
            if due < ends.get(number, 0)
        }
        clock = asyncio.get_running_loop().time
        told_s = clock()
        while places:
            for number, place in list(places.items()):
                async for block in self._block(place, ends[number], keep_alive_s):
                    if block is None or clock() - told_s > keep_alive_s:
                        told_s = clock()
                        yield KEEP_ALIVE + self._resume()
                    if block is None:
                        continue
                    for chunk in self._taken(block.frames):
                        told_s = clock()
                        yield chunk
                        await asyncio.sleep(0)  # A client that takes all at once is not alone.
                    self._next[number] = max(self._next[number], block.next_offset)
                    places[number] = Position(number, block.next_offset)
                if places[number].offset >= ends[number]:
                    del places[number]

    async def _block(
        self, place: Position, end_offset: int, keep_alive_s: float
    ) -> AsyncGenerator[Block | None, None]:
        """Yield the block at `place`; None as often as a sign of life is due before."""
        making = asyncio.ensure_future(self._service.past.block(place, end_offset))
        try:
            while not (await asyncio.wait([making], timeout=keep_alive_s))[0]:
                yield None
            yield making.result()
        finally:
            making.cancel()

    async def _live(self, listener: Listener, keep_alive_s: float) -> AsyncGenerator[bytes, None]:
        while not listener.is_dropped:
            frames = await listener.next(wait_s=keep_alive_s)
            is_silent = True
            for chunk in self._taken(frames):
                is_silent = False
                yield chunk
            if is_silent and not frames and not listener.is_dropped:
                # The id moves on although nothing was for this client: it resumes from here.
                yield KEEP_ALIVE + self._resume()

    def _taken(self, frames: Sequence[Frame | Ready]) -> Iterator[bytes]:
        """Yield what is new and wanted of `frames`, in parts that a client is handed at once."""
        joined = bytearray()
        for frame in frames:
            number, offset = frame.position
            due = self._next.get(number)
            if due is None or offset < due:
                continue
            self._next[number] = offset + 1
            if self._pool is not None and frame.pool != self._pool:
                continue
            if self._types and frame.type not in self._types:
                continue
            joined += self._id() + frame.data
            if len(joined) >= SSE_CHUNK_BYTES:
                yield bytes(joined)
                joined.clear()
        if joined:
            yield bytes(joined)

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
        problems=(422, 429, 503),
    ),
)
