"""The journal's past as frames that are ready to send: read and encoded once for all streams.

A stream that begins in the past goes from block to block. Few blocks are made at once, and each
piece of that work gives the loop back as much time as it took. What was made is kept up to
`PAST_BYTES_MAX`, so that streams which read the same part share it.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import structlog
from opentelemetry import metrics

from api.ending import end
from api.hub import Frame
from api.limits import (
    PAST_BLOCK_BYTES,
    PAST_BLOCK_OFFSETS,
    PAST_BYTES_MAX,
    PAST_MADE_AT_ONCE,
    PAST_READERS_MAX,
    PAST_SLICE_S,
    PAST_STALLED_S_MAX,
    TAIL_POLL_S,
)
from events.codec import decode_event
from events.errors import LogUnavailable, Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Position, Reader, Record
from projections.feed import Change

log = structlog.get_logger()

_MADE = metrics.get_meter("teo.api").create_counter(
    "teo_api_past_events", description="Events of the past that were encoded for streams."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One event of the past, as every stream sends it, but for the id."""

    position: Position
    pool: str
    type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The events of a partition from one offset up to `next_offset`, which is left out."""

    frames: Sequence[Ready]
    next_offset: int
    size_bytes: int


class Past:
    """Blocks of the journal, made when a stream needs them. `close` gives back the readers."""

    def __init__(self, log_: Log, topic: str) -> None:
        self._log = log_
        self._topic = topic
        self._blocks: OrderedDict[Position, Block] = OrderedDict()
        self._size_bytes = 0
        self._making: dict[Position, asyncio.Task[Block]] = {}
        self._slots = asyncio.Semaphore(PAST_MADE_AT_ONCE)
        self._readers: OrderedDict[Position, _Cursor] = OrderedDict()
        """Readers that wait to go on, by the place they stand at."""

    async def block(self, place: Position, end_offset: int) -> Block:
        """Return the block that begins at `place`, of events before `end_offset`.

        Blocks of different streams are the same ones if both begin at a `start_of`. Raises
        `LogUnavailable`.
        """
        found = self._blocks.get(place)
        if found is not None and found.next_offset <= end_offset:
            self._blocks.move_to_end(place)
            return found
        making = self._making.get(place)
        if making is None:
            making = asyncio.create_task(self._make(place, end_offset), name=f"past {place}")
            self._making[place] = making
            making.add_done_callback(lambda made: self._made(place, made))
        return await asyncio.shield(making)

    def _made(self, place: Position, making: "asyncio.Task[Block]") -> None:
        del self._making[place]
        if not making.cancelled() and (error := making.exception()) is not None:
            # Whoever waits for it is told; perhaps nobody does any more.
            log.info("past.not_made", place=str(place), error=str(error))

    async def close(self) -> None:
        """End what is being made and give back all readers."""
        await end([*self._making.values()])
        while self._readers:
            await self._readers.popitem()[1].reader.close()

    async def _make(self, place: Position, end_offset: int) -> Block:
        async with self._slots:
            cursor = await self._cursor(place)
            try:
                block = await self._read(cursor, place, min(end_offset, _end_of(place)))
            except BaseException:
                await cursor.reader.close()
                raise
            await self._park(cursor, Position(place.partition, block.next_offset))
        if block.next_offset == _end_of(place) or block.size_bytes >= PAST_BLOCK_BYTES:
            # The newest block still grows: it is made again rather than kept.
            self._keep(place, block)
        return block

    async def _read(self, cursor: "_Cursor", place: Position, stop: int) -> Block:
        """Read and encode events from `place` on, up to `stop` or as much as a block holds."""
        frames: list[Ready] = []
        size_bytes = 0
        next_offset = place.offset
        began_s = time.monotonic()
        async with aclosing(cursor.records(stop)) as records:
            async for record in records:
                frame = _ready(record)
                next_offset = record.offset + 1
                if frame is not None:
                    frames.append(frame)
                    size_bytes += len(frame.data)
                if size_bytes >= PAST_BLOCK_BYTES:
                    break
                took_s = time.monotonic() - began_s
                if took_s > PAST_SLICE_S:
                    await asyncio.sleep(took_s)
                    began_s = time.monotonic()
            else:
                next_offset = stop
        _MADE.add(len(frames))
        return Block(frames=frames, next_offset=next_offset, size_bytes=size_bytes)

    async def _cursor(self, place: Position) -> "_Cursor":
        parked = self._readers.pop(place, None)
        if parked is not None:
            return parked
        partition = Partition(self._topic, place.partition)
        return _Cursor(await self._log.open_reader({partition: place.offset}), partition)

    async def _park(self, cursor: "_Cursor", place: Position) -> None:
        """Keep a reader for whoever goes on from `place`."""
        before = self._readers.pop(place, None)
        self._readers[place] = cursor
        if before is None and len(self._readers) > PAST_READERS_MAX:
            _, before = self._readers.popitem(last=False)
        if before is not None:
            with suppress(Exception):
                await before.reader.close()

    def _keep(self, place: Position, block: Block) -> None:
        self._blocks[place] = block
        self._size_bytes += block.size_bytes
        while self._size_bytes > PAST_BYTES_MAX and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self._size_bytes -= oldest.size_bytes


class _Cursor:
    """A reader with what it has read and nobody has taken yet."""

    def __init__(self, reader: Reader, partition: Partition) -> None:
        self.reader = reader
        self._partition = partition
        self._left: deque[Record] = deque()

    async def records(self, stop: int) -> AsyncGenerator[Record, None]:
        """Yield records before offset `stop`; what is read beyond it is kept.

        Raises `LogUnavailable`, also if it gets no further.
        """
        progress_s = time.monotonic()
        while True:
            while self._left:
                if self._left[0].offset >= stop:
                    return
                yield self._left.popleft()
            if await self.reader.position(self._partition) >= stop:
                return
            found = await self.reader.poll(records_max=PAST_BLOCK_OFFSETS, wait_s=TAIL_POLL_S)
            self._left.extend(found)
            if found:
                progress_s = time.monotonic()
            elif time.monotonic() - progress_s > PAST_STALLED_S_MAX:
                raise LogUnavailable(f"{self._partition}: nothing read up to offset {stop}")


def start_of(offset: int) -> int:
    """Return where the block begins that holds `offset`, for who does not come from another."""
    return offset - offset % PAST_BLOCK_OFFSETS


def _end_of(place: Position) -> int:
    return start_of(place.offset) + PAST_BLOCK_OFFSETS


def _ready(record: Record) -> Ready | None:
    """Return what is sent of a record; None for one that is no fact, as projections do."""
    position = Position(record.partition, record.offset)
    try:
        message = decode_event(record.value)
    except Undecodable:
        return None
    if not is_in_place(message.meta, record.partition):
        return None  # No scheduler wrote it.
    frame = Frame(Change(position=position, message=message))
    return Ready(position=position, pool=message.meta.pool, type=frame.type, data=frame.data)
