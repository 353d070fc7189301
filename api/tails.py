"""Reads the log topic once for all clients that follow. Never waits for a client.

Records of executions that nobody follows are told by their key and not decoded.
"""

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from opentelemetry import metrics

from api.limits import (
    FOLLOW_PENDING_BYTES_MAX,
    LOG_SEARCH_SLACK_S,
    LOG_STARTS_MAX,
    TAIL_POLL_S,
    TAIL_RECORDS_MAX,
    TAIL_RETRY_S,
)
from events.codec import decode
from events.errors import LogUnavailable, Undecodable
from events.log import Log, Partition, Record
from events.logs import LogBatch

log = structlog.get_logger()
_UNREADABLE = metrics.get_meter("teo.api").create_counter(
    "teo_api_log_records_unreadable", description="Records of the log topic nobody could read."
)


@dataclass(frozen=True, slots=True)
class Shipped:
    """A batch of lines and the offset it stands at."""

    offset: int
    batch: LogBatch


def read_batch(record: Record) -> LogBatch | None:
    """Return the batch a record holds; None, counted, if it holds none."""
    try:
        batch = decode(record.value)
    except Undecodable as error:
        log.warning("tail.unreadable", offset=record.offset, error=str(error))
        _UNREADABLE.add(1)
        return None
    return batch if isinstance(batch, LogBatch) else None


class Follower:
    """The batches that wait for one client. When too many wait it forgets them and says so."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._batches: deque[Shipped] = deque()
        self._size_bytes = 0
        self._wake = wake
        self.is_behind = True
        """True: the client reads the topic by itself, up to where the tail stands."""

    def push(self, shipped: Shipped, size_bytes: int) -> None:
        """Take a batch, unless the client is behind anyway."""
        if self.is_behind:
            self._wake.set()
            return
        self._size_bytes += size_bytes
        if self._size_bytes > FOLLOW_PENDING_BYTES_MAX:
            self._batches.clear()
            self.is_behind = True
        else:
            self._batches.append(shipped)
        self._wake.set()

    def level(self) -> None:
        """Begin to collect: from the tail's position of this moment on nothing is missed."""
        self._batches.clear()
        self._size_bytes = 0
        self.is_behind = False

    @property
    def has_more(self) -> bool:
        """True if something waits."""
        return bool(self._batches)

    def take(self) -> Sequence[Shipped]:
        """Return what waits."""
        batches = list(self._batches)
        self._batches.clear()
        self._size_bytes = 0
        return batches


class LogTail:
    """The one reader of the log topic, over all partitions, from the end at its start on."""

    def __init__(self, log_: Log, topic: str, clock: Callable[[], datetime]) -> None:
        self._log = log_
        self._topic = topic
        self._clock = clock
        self._next: dict[int, int] = {}
        self._starts: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        """First offset seen of each execution, and True if it is surely its first."""
        self._has_forgotten = False
        self._followers: dict[bytes, set[Follower]] = defaultdict(set)
        self._ready = asyncio.Event()
        self._since: datetime | None = None

    async def run(self) -> None:
        """Read until cancelled; an unavailable log is tried again."""
        while True:
            try:
                await self._read()
            except LogUnavailable as error:
                log.warning("tail.log_unavailable", topic=self._topic, error=str(error))
            await asyncio.sleep(TAIL_RETRY_S)

    @property
    def is_ready(self) -> bool:
        """True once the tail stands at its first position."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """Return once the tail stands at its first position."""
        await self._ready.wait()

    @property
    def topic(self) -> str:
        """Return the topic it reads."""
        return self._topic

    def partition_of(self, execution_id: str) -> int:
        """Return the partition that holds the lines of an execution."""
        return self._log.partition_for(execution_id.encode(), len(self._next))

    def position(self, partition: int) -> int:
        """Return the offset the tail reads next."""
        return self._next[partition]

    def start_of(self, execution_id: str, created_at: datetime) -> int | None:
        """Return where the lines of an execution begin; None: the tail cannot know."""
        offset, is_first = self._starts.get(execution_id, (None, False))
        if is_first:
            return offset
        slack = timedelta(seconds=LOG_SEARCH_SLACK_S)
        if self._since is None or self._has_forgotten or created_at < self._since + slack:
            return None
        partition = self.partition_of(execution_id)
        return self._next[partition] if offset is None else offset

    def note_start(self, execution_id: str, offset: int) -> None:
        """Remember the first offset of an execution that a search has found."""
        self._starts[execution_id] = (offset, True)
        self._starts.move_to_end(execution_id)
        self._forget()

    @contextmanager
    def following(self, execution_id: str, wake: asyncio.Event) -> Iterator[Follower]:
        """Give a follower of one execution; `wake` is set when it has something."""
        key = execution_id.encode()
        follower = Follower(wake)
        self._followers[key].add(follower)
        try:
            yield follower
        finally:
            self._followers[key].discard(follower)
            if not self._followers[key]:
                del self._followers[key]

    async def _read(self) -> None:
        if not self._next:
            self._next = dict(await self._ends())
            self._since = self._clock()
            self._ready.set()
        starts = {Partition(self._topic, number): at for number, at in self._next.items()}
        reader = await self._log.open_reader(starts)
        try:
            while True:
                records = await reader.poll(records_max=TAIL_RECORDS_MAX, wait_s=TAIL_POLL_S)
                for record in records:
                    self._take(record)
                # A broker with much to give must not keep the loop from serving.
                await asyncio.sleep(0)
        finally:
            await reader.close()

    async def _ends(self) -> Mapping[int, int]:
        count = await self._log.partitions(self._topic)
        partitions = [Partition(self._topic, number) for number in range(count)]
        ends = await self._log.ends(partitions)
        return {partition.number: ends[partition] for partition in partitions}

    def _take(self, record: Record) -> None:
        self._next[record.partition] = record.offset + 1
        key = record.key or b""
        execution_id = key.decode(errors="replace")
        followers = self._followers.get(key, ())
        is_new = execution_id not in self._starts
        if not followers and not is_new:
            return
        batch = read_batch(record)
        if batch is None:
            return
        if is_new:
            is_first = batch.attempt == 1 and batch.first_line == 1
            self._starts[execution_id] = (record.offset, is_first)
            self._forget()
        shipped = Shipped(record.offset, batch)
        for follower in followers:
            follower.push(shipped, len(record.value or b""))

    def _forget(self) -> None:
        while len(self._starts) > LOG_STARTS_MAX:
            self._starts.popitem(last=False)
            self._has_forgotten = True
