"""Tells listeners what the read model has just applied; one tail of the journal feeds them all.

Never waits for a listener: one that is too slow loses its place and is told so.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import structlog

from events.codec import decode_event
from events.errors import Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Position
from events.message import EventMessage

log = structlog.get_logger()

WAITING_CHANGES_MAX = 20_000
"""Changes that may wait for one listener."""
HISTORY_RECORDS_MAX = 500
HISTORY_WAIT_S = 0.5
LIVE_WAIT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An event that the read model has applied."""

    position: Position
    message: EventMessage


class FeedOverflow(Exception):
    """Raised when a listener of the feed was too slow and changes were dropped."""


class Subscription:
    """One listener of the feed."""

    def __init__(self, begins: Mapping[int, int], changes_max: int) -> None:
        self.begins = begins
        """For each partition, the offset from which on it is told of changes; 0 if missing."""
        self._changes_max = changes_max
        self._waiting: list[Change] = []
        self._has_overflown = False
        self._wake = asyncio.Event()

    def put(self, changes: Sequence[Change]) -> None:
        """Hand over what was applied."""
        if len(self._waiting) + len(changes) > self._changes_max:
            self._has_overflown = True
            self._waiting.clear()
        if not self._has_overflown:
            self._waiting.extend(changes)
        self._wake.set()

    async def next(self, *, wait_s: float) -> Sequence[Change]:
        """Return what was applied since, in order; [] after `wait_s`.

        Raises `FeedOverflow` if more waited than may: some changes were dropped.
        """
        if not self._waiting and not self._has_overflown:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        if self._has_overflown:
            self._wake.set()
            raise FeedOverflow(
                f"more than {self._changes_max} changes waited for a listener; "
                "go on from the last position you had"
            )
        changes, self._waiting = self._waiting, []
        return changes


class ChangeFeed:
    """The listeners, and where the feed stands."""

    def __init__(self, *, changes_max: int = WAITING_CHANGES_MAX) -> None:
        self._changes_max = changes_max
        self._listeners: set[Subscription] = set()
        self._ends: dict[int, int] = {}

    def begin(self, ends: Mapping[int, int]) -> None:
        """Say up to which offset, left out, each partition was applied before."""
        self._ends = dict(ends)

    def ends(self) -> dict[int, int]:
        """Return for each partition the offset that follows what was published of it."""
        return dict(self._ends)

    def publish(self, changes: Sequence[Change]) -> None:
        """Hand changes, just committed, to every listener."""
        for change in changes:
            self._ends[change.position.partition] = change.position.offset + 1
        for listener in self._listeners:
            listener.put(changes)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen from now on."""
        listener = Subscription(self.ends(), self._changes_max)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)


async def history(
    log_: Log, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
) -> AsyncGenerator[Sequence[Change], None]:
    """Yield the changes of each partition from its start up to its end, which is left out.

    In order within a partition. Records that cannot be read are skipped, as the projection does.
    Close the iterator (`contextlib.aclosing`) if it is left before its end.
    """
    left = {Partition(topic, number): end for number, end in ends.items()}
    wanted = {
        partition: starts.get(partition.number, 0)
        for partition, end in left.items()
        if starts.get(partition.number, 0) < end
    }
    if not wanted:
        return
    reader = await log_.open_reader(wanted)
    try:
        open_ = set(wanted)
        while open_:
            records = await reader.poll(records_max=HISTORY_RECORDS_MAX, wait_s=HISTORY_WAIT_S)
            changes: list[Change] = []
            for record in records:
                if record.offset < ends[record.partition]:
                    try:
                        message = decode_event(record.value)
                    except Undecodable:
                        continue
                    if not is_in_place(message.meta, record.partition):
                        continue  # No scheduler wrote it.
                    position = Position(record.partition, record.offset)
                    changes.append(Change(position=position, message=message))
            if changes:
                yield changes
            for partition in tuple(open_):
                if await reader.position(partition) >= left[partition]:
                    open_.discard(partition)
    finally:
        await reader.close()


async def follow(
    feed: ChangeFeed, log_: Log, topic: str, starts: Mapping[int, int]
) -> AsyncGenerator[Sequence[Change], None]:
    """Yield all changes from `starts` on (first offset by partition; 0 if missing), then live.

    Most of the history is read before it listens, so that little waits meanwhile. Each change
    comes once and, within a partition, in order; [] whenever nothing came for `LIVE_WAIT_S`, so
    that the caller can send a sign of life. Raises `FeedOverflow` if the caller is too slow.
    """
    reached = feed.ends()
    async with aclosing(history(log_, topic, starts, reached)) as older:
        async for changes in older:
            yield changes
    going_on = {n: max(starts.get(n, 0), reached.get(n, 0)) for n in {*starts, *reached}}
    with feed.subscribe() as listener:
        async with aclosing(history(log_, topic, going_on, listener.begins)) as newer:
            async for changes in newer:
                yield changes
        while True:
            live = await listener.next(wait_s=LIVE_WAIT_S)
            yield [
                change
                for change in live
                if change.position.offset >= starts.get(change.position.partition, 0)
            ]
