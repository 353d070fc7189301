"""Which partitions of the log nobody serves now, since when and why, as schedulers say themselves.

Each scheduler tells its group every two seconds how its partitions stand. What does not change any
more has nobody who serves it. Never decides anything: a command to such a partition is taken, and
whoever sent it is told.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from api.limits import PARTITION_STALE_S, PARTITIONS_ASK_S
from events.errors import LogUnavailable
from events.log import Log, Noted, Partition
from events.topics import Topics

log = structlog.get_logger()

_METER = metrics.get_meter("teo.api")
NOBODY = "not_served"
SERVING, BROKEN = "serving", "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A partition that nobody serves."""

    partition: int
    since: datetime
    """At the latest: it may have been earlier."""
    code: str
    detail: str

    def told(self) -> str:
        """Return it in one line."""
        since = self.since.isoformat(timespec="seconds")
        return f"partition {self.partition} is not served since {since}: {self.code}: {self.detail}"


@dataclass(slots=True)
class _Seen:
    """What was said last of a partition, and when that was new."""

    text: str
    changed_s: float
    changed_at: datetime
    well_s: float
    """When it was served last, or first seen."""
    well_at: datetime


class PartitionWatch:
    """What schedulers say of their partitions, and how long ago it changed."""

    def __init__(
        self,
        log_: Log,
        topics: Topics,
        clock: Callable[[], datetime],
        monotonic_s: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self._log = log_
        self._topics = topics
        self._clock = clock
        self._monotonic_s = monotonic_s
        self._seen: dict[int, _Seen] = {}
        self._asked_s = 0.0
        """When it was asked last, and answered."""
        self._count = 0
        _METER.create_observable_gauge(
            "teo_partitions_unserved",
            callbacks=[self._observe],
            description="Partitions that no scheduler serves",
        )

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(len(self.unserved()))]

    async def run(self) -> None:
        """Ask again and again, until cancelled. What cannot be asked now stays as it was."""
        while True:
            try:
                await self.ask()
            except LogUnavailable as error:
                log.debug("partitions.not_asked", error=str(error))
            await asyncio.sleep(PARTITIONS_ASK_S)

    async def ask(self) -> None:
        """Ask once. Raises `LogUnavailable`."""
        count = await self._log.partitions(self._topics.commands)
        every = [Partition(self._topics.commands, number) for number in range(count)]
        noted = await self._log.noted(self._topics.scheduler_group, every)
        self._count = count
        self._asked_s = self._monotonic_s()
        for each in every:
            self._take(each.number, noted.get(each))

    def _take(self, number: int, noted: Noted | None) -> None:
        now_s, now = self._asked_s, self._clock()
        text = "" if noted is None else noted.text
        seen = self._seen.get(number)
        if seen is None:
            self._seen[number] = _Seen(text, now_s, now, now_s, now)
            return
        if text != seen.text:
            seen.text, seen.changed_s, seen.changed_at = text, now_s, now
            if _said(text).get("state") == SERVING:
                seen.well_s, seen.well_at = now_s, now

    def unserved(self) -> list[Unserved]:
        """Return the partitions that nobody serves, by number."""
        found = (self._of(number) for number in range(self._count))
        return [each for each in found if each is not None]

    def of_pool(self, pool: str) -> Unserved | None:
        """Return the partition of `pool` if nobody serves it."""
        if not self._count:
            return None
        return self._of(self._log.partition_for(pool.encode(), self._count))

    def of_pools(self, pools: Iterable[str]) -> Mapping[int, list[str]]:
        """Return which of `pools` belong to each partition."""
        found: dict[int, list[str]] = {}
        for pool in pools if self._count else ():
            number = self._log.partition_for(pool.encode(), self._count)
            found.setdefault(number, []).append(pool)
        return found

    def _of(self, number: int) -> Unserved | None:
        seen = self._seen.get(number)
        if seen is None:
            return None
        said = _said(seen.text)
        code, detail = str(said.get("code", "")), str(said.get("detail", ""))
        if self._asked_s - seen.changed_s > PARTITION_STALE_S:
            what = "no scheduler says that it serves it; see that one runs"
            last = f"; it said last: {code}: {detail}" if code else ""
            return Unserved(
                partition=number, since=seen.changed_at, code=NOBODY, detail=what + last
            )
        if said.get("state") == BROKEN:
            since = _time(said.get("since")) or seen.changed_at
            return Unserved(partition=number, since=since, code=code, detail=detail)
        if said.get("state") != SERVING and self._asked_s - seen.well_s > PARTITION_STALE_S:
            return Unserved(
                partition=number, since=seen.well_at, code=code or "recovering", detail=detail
            )
        return None


def _said(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
