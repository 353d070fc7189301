"""Keeps the read models level with the journal, and wakes those who wait for a position.

Never decides and never writes to the log. Everything is on the event loop in bounded batches: no
threads, so that a run can be repeated exactly.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime

import structlog

from events.errors import JournalBehind, JournalBroken, LogUnavailable, TeoError
from events.log import Log, Partition, Position, Record
from events.topics import Topics
from projections import queries
from projections.commands import command_of
from projections.feed import Change, ChangeFeed
from projections.journal import happened_at
from projections.metrics import ProjectionMetrics, projection_metrics
from projections.rows import CommandRow, Health
from projections.store import Store, StoreDamaged, StoreUnavailable
from projections.tail import Tail

log = structlog.get_logger()

BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 5.0
LOCKED_S_MAX = 1.0
"""Who locks the database does so for a moment: it is level again soon after."""


IsWanted = Callable[[CommandRow], bool]
"""Whether an outcome of a command is the one to wait for."""


def any_outcome(_: CommandRow) -> bool:
    """Return True: whatever the outcome is, it is one."""
    return True


class Projector:
    """The one task that fills a store, and the waits on it."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        store: Store,
        *,
        feed: ChangeFeed | None = None,
        metrics: ProjectionMetrics | None = None,
    ) -> None:
        self.feed = feed or ChangeFeed()
        self.store = store
        self.turn = asyncio.Lock()
        """Held while a batch goes in: who holds it finds the store at rest."""
        self._metrics = metrics or projection_metrics()
        self._log = log
        self._topic = topics.events
        self._tail: Tail | None = None
        self._count = 0
        """How many partitions the journal has; 0: not known yet."""
        self._trouble = "not started"
        """Why it does not read now; empty: it does."""
        self._trouble_s = 0.0
        """Since when, by the loop's clock; 0: it is no trouble that lasts."""
        self._commands: dict[str, set[asyncio.Future[None]]] = {}
        self._waits: set[tuple[Callable[[], bool], asyncio.Future[None]]] = set()
        """Waits for a position or for an end: few, so each is looked at after each batch."""

    async def run(self) -> None:
        """Apply events until cancelled; what cannot be reached now is tried again.

        That is the log, or the database while somebody else has locked it: what was read and not
        applied is read again, from where the database stands. So is a journal that is broken:
        somebody may mend it, and what is known is shown meanwhile. A database that is damaged is
        built again. Raises any other error of the database: it cannot go on at all.
        """
        pause_s = BACKOFF_S_FIRST
        try:
            while True:
                progress = self._progress()
                try:
                    await self._follow()
                except (LogUnavailable, JournalBroken, StoreUnavailable) as error:
                    self._note_trouble(error)
                    self._metrics.interruptions.add(1)
                    has_moved = self._progress() != progress
                    most_s = LOCKED_S_MAX if isinstance(error, StoreUnavailable) else BACKOFF_S_MAX
                    pause_s = BACKOFF_S_FIRST if has_moved else min(most_s, pause_s * 2)
                    is_grave = isinstance(error, JournalBehind | JournalBroken)
                    say = log.critical if is_grave else log.warning
                    say("projection.interrupted", error=str(error), pause_s=pause_s)
                    await asyncio.sleep(pause_s)
                except StoreDamaged as error:
                    # Before the pause: what is read meanwhile is empty, and not an error.
                    await self._begin_anew(error)
                    await asyncio.sleep(BACKOFF_S_MAX)
        except BaseException as error:
            self._trouble, self._trouble_s = f"stopped: {type(error).__name__}: {error}", 0.0
            if not isinstance(error, asyncio.CancelledError):
                log.error("projection.stopped", error=str(error))  # noqa: TRY400
            raise

    async def _begin_anew(self, error: StoreDamaged) -> None:
        """Throw the damaged database away: another start would find the same damage."""
        self._note_trouble(error)
        self._metrics.interruptions.add(1)
        log.critical("projection.damaged", error=str(error), pause_s=BACKOFF_S_MAX)
        async with self.turn:
            self.store.reset(str(error))

    def _note_trouble(self, error: TeoError) -> None:
        if self._trouble != str(error):
            self._trouble, self._trouble_s = str(error), asyncio.get_running_loop().time()

    def _progress(self) -> Mapping[int, int]:
        return {number: mark.offset for number, mark in self.store.marks.items()}

    async def _follow(self) -> None:
        tail = await Tail.open(self.store, self._log, self._topic)
        self.feed.begin({n: mark.offset + 1 for n, mark in self.store.marks.items()})
        self._tail, self._count, self._trouble = tail, len(tail.partitions), ""
        try:
            while True:
                records = await tail.poll()
                async with self.turn:
                    await self._take(tail, records)
                await tail.settle()
                self.store.check()
                self._wake()
                await asyncio.sleep(0)
        finally:
            self._tail = None
            await tail.close()

    async def _take(self, tail: Tail, records: Sequence[Record]) -> None:
        """Apply records and tell everybody, without a wait in between."""
        began_s = time.perf_counter()
        async with aclosing(tail.take(records)) as batches:
            async for batch in batches:
                changes = batch.changes()
                if changes:
                    self._metrics.apply.record(time.perf_counter() - began_s)
                    self._metrics.events.add(len(changes))
                self._publish(changes)

    def _publish(self, changes: list[Change]) -> None:
        if changes:
            self.feed.publish(changes)
        for change in changes:
            for future in self._commands.get(command_of(change.message), ()):
                _set(future)
        self._wake()

    def _wake(self) -> None:
        for is_met, future in self._waits:
            if is_met():
                _set(future)

    async def wait_for(self, position: Position, wait_s: float) -> bool:
        """Return True once `position` is applied, False if it was not within `wait_s`."""
        return await self._until(
            lambda: self.store.mark(position.partition).offset >= position.offset, wait_s
        )

    async def wait_for_command(
        self, command_id: str, wait_s: float, is_wanted: IsWanted = any_outcome
    ) -> CommandRow | None:
        """Return the outcome of a command once all of its events are applied; None: not yet.

        One that is not wanted is waited over: a command that was set aside may yet be decided.
        """
        until_s = asyncio.get_running_loop().time() + wait_s
        while True:
            found = queries.command(self.store.db, command_id)
            if found is not None and is_wanted(found):
                return found
            with self._waiting_for(command_id) as future:
                left_s = until_s - asyncio.get_running_loop().time()
                if left_s <= 0 or not await _within(future, left_s):
                    return None

    async def knows(self, pool: str, since: datetime, wait_s: float) -> bool:
        """Return True once all that happened to `pool` before `since` is applied."""
        return await self._until(lambda: self._knows(pool, since), wait_s)

    def _knows(self, pool: str, since: datetime) -> bool:
        """Return True if it was level once since it reads, or has applied what is newer."""
        if not self._count:
            return False
        number = self._log.partition_for(pool.encode(), self._count)
        if self._tail is not None and self._tail.is_level(number):
            return True
        newest = happened_at(self.store.mark(number).event_id)
        return newest is not None and newest >= since

    async def caught_up(self, wait_s: float) -> bool:
        """Return True once all that is in the journal now is applied, False after `wait_s`.

        Raises `LogUnavailable` or `TopicMissing` if it cannot be known how far the journal goes.
        """
        ends = await self._ends()
        return await self._until(lambda: self._behind(ends) == 0, wait_s)

    async def health(self) -> Health:
        """Return how the projection stands."""
        if self._trouble:
            for_s = asyncio.get_running_loop().time() - self._trouble_s
            lasts = f", for {for_s:.0f} s now" if self._trouble_s else ""
            return Health(is_live=False, behind=0, detail=f"{self._trouble}{lasts}")
        try:
            behind = self._behind(await self._ends())
        except LogUnavailable as error:
            return Health(is_live=False, behind=0, detail=str(error))
        skipped = sum(mark.skipped for mark in self.store.marks.values())
        detail = f"{skipped} records of the journal could not be read" if skipped else ""
        return Health(is_live=True, behind=behind or 0, detail=detail)

    async def _ends(self) -> Mapping[int, int]:
        if self._tail is not None:
            partitions = self._tail.partitions
        else:
            count = await self._log.partitions(self._topic)
            partitions = tuple(Partition(self._topic, number) for number in range(count))
        ends = await self._log.ends(partitions)
        return {partition.number: end for partition, end in ends.items()}

    def _behind(self, ends: Mapping[int, int]) -> int | None:
        """Return how many offsets before `ends` are not read; None: it does not read now."""
        tail = self._tail
        if tail is None:
            return None
        return sum(max(0, end - tail.read.get(number, 0)) for number, end in ends.items())

    async def _until(self, is_met: Callable[[], bool], wait_s: float) -> bool:
        if is_met():
            return True
        entry = (is_met, asyncio.get_running_loop().create_future())
        self._waits.add(entry)
        try:
            return await _within(entry[1], wait_s)
        finally:
            self._waits.discard(entry)

    @contextmanager
    def _waiting_for(self, command_id: str) -> Iterator[asyncio.Future[None]]:
        future = asyncio.get_running_loop().create_future()
        waiting = self._commands.setdefault(command_id, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._commands.pop(command_id, None)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _within(future: asyncio.Future[None], wait_s: float) -> bool:
    """Return True once `future` is done, False after `wait_s`."""
    try:
        async with asyncio.timeout(wait_s):
            await future
    except TimeoutError:
        return False
    return True
