"""One listener of the feed for all clients: wakes who waits for a thing, fills event streams.

Never waits for a client: one that is too slow is dropped and may resume.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import structlog

from api.encoding import dumps
from api.limits import SSE_PENDING_MAX, TAIL_POLL_S
from events.codec import type_name
from events.message import EventMessage
from events.secrets import names_only
from events.shared import RunSpec
from projections.feed import Change, ChangeFeed, FeedOverflow

log = structlog.get_logger()
_SUBJECTS = ("execution_id", "reservation_id", "holder_id")


class Frame:
    """An event as all clients get it; encoded once, when the first one needs it."""

    def __init__(self, change: Change) -> None:
        self.position = change.position
        self.message = change.message
        self.type = type_name(change.message)
        self.pool = change.message.meta.pool

    @cached_property
    def data(self) -> bytes:
        """Return the lines of the stream, but for the id."""
        return b"event: " + self.type.encode() + b"\ndata: " + dumps(plain(self.message)) + b"\n\n"


def plain(message: EventMessage) -> dict[str, Any]:
    """Return an event, or another message, as JSON has it: of variables the names only."""
    body: Any = message.body
    run = getattr(body, "run", None)
    if isinstance(run, RunSpec) and run.env:
        body = replace(body, run=replace(run, env=names_only(run.env)))
    return {"meta": message.meta, "type": type_name(message), "data": body}


class Listener:
    """The frames that wait for one client."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self.is_dropped = False

    def push(self, frame: Frame) -> None:
        """Take a frame, or drop the client if too many wait."""
        if len(self._frames) >= SSE_PENDING_MAX:
            self.drop()
        if not self.is_dropped:
            self._frames.append(frame)
            self._wake.set()

    def drop(self) -> None:
        """Give up on the client: what it misses it reads when it resumes."""
        self.is_dropped = True
        self._frames.clear()
        self._wake.set()

    async def next(self, *, wait_s: float) -> Sequence[Frame]:
        """Return the frames that wait; [] after `wait_s`, or when dropped."""
        if not self._frames and not self.is_dropped:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        frames = list(self._frames)
        self._frames.clear()
        return frames


class Waiter:
    """Somebody who waits for news of one thing. `count` rises with each."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.count = 0

    def tell(self) -> None:
        """Say that there is news."""
        self.count += 1
        self.wake.set()

    async def wait(self, wait_s: float) -> None:
        """Return at the first news since the last wait, or after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()


class Hub:
    """Spreads what the read model has applied."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._waiting: dict[str, set[Waiter]] = defaultdict(set)
        self._listeners: set[Listener] = set()

    async def run(self) -> None:
        """Spread changes until cancelled."""
        while True:
            try:
                with self._feed.subscribe() as subscription:
                    # What was applied before is not told again: let those who wait look.
                    self._wake_all()
                    while True:
                        self._spread(await subscription.next(wait_s=TAIL_POLL_S))
            except FeedOverflow:
                log.warning("hub.overflow", listeners=len(self._listeners))
                for listener in self._listeners:
                    listener.drop()

    @contextmanager
    def waiting(self, subject_id: str) -> Iterator[Waiter]:
        """Give a waiter that is told whenever something happens to `subject_id`."""
        waiter = Waiter()
        self._waiting[subject_id].add(waiter)
        try:
            yield waiter
        finally:
            self._waiting[subject_id].discard(waiter)
            if not self._waiting[subject_id]:
                del self._waiting[subject_id]

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Give a listener that gets every event applied from now on."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _spread(self, changes: Sequence[Change]) -> None:
        for change in changes:
            body = change.message.body
            for name in _SUBJECTS:
                for waiter in self._waiting.get(getattr(body, name, ""), ()):
                    waiter.tell()
            if self._listeners:
                frame = Frame(change)
                for listener in self._listeners:
                    listener.push(frame)

    def _wake_all(self) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.tell()
