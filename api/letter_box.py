"""Reads the dead letters' topic: one letter, or the newest first, part by part.

Bounded in what it reads and in what it keeps. Never settles anything.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from api.limits import (
    LETTER_READ_S_MAX,
    LETTER_RECORDS_MAX,
    LETTERS_SCANNED_MAX,
    LETTERS_WINDOW,
)
from api.problems import Problem
from events.codec import decode, type_name
from events.dlq import DeadLetter
from events.errors import Undecodable
from events.letters import letter_id, position_of
from events.log import Log, Partition, Position, Record

POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a list shows of a letter: all but what it holds."""

    at: Position
    found_at: datetime
    kind: str
    pool: str
    execution_id: str | None
    error: str
    source_topic: str
    source_partition: int
    source_offset: int
    source_at: datetime
    found_by: str
    type: str
    """What the sender called it; empty: it did not say."""
    size_bytes: int
    """Of the value of the record, also if the letter holds a part of it only."""
    is_cut: bool
    sha256: str
    """Of that value, if the letter is cut; else empty."""

    @property
    def id(self) -> str:
        """Its place, as its name."""
        return letter_id(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A letter, whole. `letter` None: the record on the dead letters' topic is none."""

    entry: Entry
    letter: DeadLetter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the list. `before`: below which offsets it goes on; empty: nowhere."""

    entries: tuple[Entry, ...]
    before: Mapping[int, int]


@dataclass(slots=True)
class _Shelf:
    """One partition, read from its end."""

    begin: int
    before: int
    """Everything from here on is given out."""
    unread: int
    """Everything from here on is read."""
    entries: list[Entry] = field(default_factory=list)
    """Read and not given out, the newest last."""


class LetterBox:
    """The letters of one environment."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log = log
        self._topic = topic

    async def letter(self, text: str) -> Found | None:
        """Return the letter of this id; None: there is none, or it is not kept any more."""
        at = position_of(text)
        if at is None or at.partition >= await self._log.partitions(self._topic):
            return None
        partition = Partition(self._topic, at.partition)
        begin = (await self._log.begins([partition]))[partition]
        end = (await self._log.ends([partition]))[partition]
        if not begin <= at.offset < end:
            return None
        window = self._records({partition: (at.offset, at.offset + 1)})
        async with aclosing(window) as records:
            async for record in records:
                return _found(record)
        return None

    async def part(
        self,
        before: Mapping[int, int] | None,
        *,
        limit: int,
        is_wanted: Callable[[Entry], Awaitable[bool]],
    ) -> Part:
        """Return up to `limit` letters that are wanted, newest first, from below `before` on.

        `before` None: from the end. It may return fewer and still go on: it looks at so many only.
        """
        shelves = await self._shelves(before)
        entries: list[Entry] = []
        for _ in range(LETTERS_SCANNED_MAX):
            await self._fill(shelves)
            full = [shelf for shelf in shelves.values() if shelf.entries]
            if not full or len(entries) >= limit:
                break
            shelf = max(full, key=lambda each: (each.entries[-1].found_at, each.entries[-1].at))
            entry = shelf.entries.pop()
            shelf.before = entry.at.offset
            if await is_wanted(entry):
                entries.append(entry)
        left = {n: shelf.before for n, shelf in shelves.items() if shelf.entries or _more(shelf)}
        return Part(entries=tuple(entries), before=left)

    async def _shelves(self, before: Mapping[int, int] | None) -> dict[int, _Shelf]:
        count = await self._log.partitions(self._topic)
        partitions = [Partition(self._topic, number) for number in range(count)]
        begins, ends = await self._log.begins(partitions), await self._log.ends(partitions)
        shelves: dict[int, _Shelf] = {}
        for each in partitions:
            end = ends[each] if before is None else min(before.get(each.number, 0), ends[each])
            shelves[each.number] = _Shelf(begin=begins[each], before=end, unread=end)
        return shelves

    async def _fill(self, shelves: Mapping[int, _Shelf]) -> None:
        """Read on until every shelf has an entry, or nothing is left of it."""
        while empty := {n: s for n, s in shelves.items() if not s.entries and _more(s)}:
            windows = {
                Partition(self._topic, n): (max(s.begin, s.unread - LETTERS_WINDOW), s.unread)
                for n, s in empty.items()
            }
            async with aclosing(self._records(windows)) as records:
                async for record in records:
                    empty[record.partition].entries.append(_found(record).entry)
            for partition, (start, _) in windows.items():
                shelf = empty[partition.number]
                shelf.unread = start
                if not shelf.entries:
                    shelf.before = start  # Nothing but marks of transactions.

    async def _records(
        self, windows: Mapping[Partition, tuple[int, int]]
    ) -> AsyncGenerator[Record, None]:
        """Yield the records of each window, in order within a partition."""
        reader = await self._log.open_reader({p: start for p, (start, _) in windows.items()})
        open_ = set(windows)
        try:
            async with asyncio.timeout(LETTER_READ_S_MAX):
                while open_:
                    for record in await reader.poll(records_max=LETTER_RECORDS_MAX, wait_s=POLL_S):
                        if record.offset < windows[Partition(record.topic, record.partition)][1]:
                            yield record
                    for partition in tuple(open_):
                        if await reader.position(partition) >= windows[partition][1]:
                            open_.discard(partition)
        except TimeoutError as error:
            detail = "the dead letters cannot be read now; try again in a moment"
            headers = {"Retry-After": "2"}
            raise Problem(503, "log_unavailable", detail, headers=headers) from error
        finally:
            await reader.close()


def _more(shelf: _Shelf) -> bool:
    return shelf.unread > shelf.begin


def _found(record: Record) -> Found:
    at = Position(record.partition, record.offset)
    try:
        letter = _letter(record)
    except Undecodable as error:
        return Found(entry=_stranger(record, at, error), letter=None)
    key = letter.key or b""
    entry = Entry(
        at=at,
        found_at=letter.found_at,
        kind=letter.kind,
        pool=letter.pool or key.decode("utf-8", "replace"),
        execution_id=letter.execution_id,
        error=letter.error,
        source_topic=letter.source_topic,
        source_partition=letter.source_partition,
        source_offset=letter.source_offset,
        source_at=letter.source_timestamp,
        found_by=letter.found_by,
        type=letter.headers.get("ce_type", b"").decode("utf-8", "replace"),
        size_bytes=len(letter.value or b"") if letter.whole_bytes is None else letter.whole_bytes,
        is_cut=letter.whole_bytes is not None,
        sha256=letter.whole_sha256,
    )
    return Found(entry=entry, letter=letter)


def _letter(record: Record) -> DeadLetter:
    letter = decode(record.value)
    if not isinstance(letter, DeadLetter):
        raise Undecodable(f"it holds a {type_name(letter)}")
    return letter


def _stranger(record: Record, at: Position, error: Undecodable) -> Entry:
    """Return what can be said of a record that somebody else put on the topic."""
    return Entry(
        at=at,
        found_at=record.timestamp,
        kind="unknown",
        pool=(record.key or b"").decode("utf-8", "replace"),
        execution_id=None,
        error=f"the record on {record.topic} is no dead letter: {error}",
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at=record.timestamp,
        found_by="",
        type="",
        size_bytes=len(record.value or b""),
        is_cut=False,
        sha256="",
    )
