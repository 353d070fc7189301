"""Tells listeners what the read model has just applied; one tail of the journal feeds them all.

Never waits for a listener: one that is too slow loses its place and is told so.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from events.log import Position
from events.message import EventMessage

WAITING_CHANGES_MAX = 20_000
"""Changes that may wait for one listener."""


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
