"""The times of one partition's inputs, and what is said of the clocks that stamp them.

What it measures counts once the decisions made with it are committed: after a failure it goes on
from what it knew at the last commit, as the ledger does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from events.append_time import time_of
from events.facts import ClockJumped
from events.log import Partition, Reader, Record
from processors.runtime.log_time import Clock, LogTime, Stamp, tell
from processors.runtime.metrics import RuntimeMetrics

FRESH_S = 5.0
"""An input that waited no longer says what time it is."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timed:
    """An input and its time. `jump_s` is by how much a clock was seen to jump at it; 0: not."""

    record: Record
    at: datetime
    jump_s: float

    def jump(self) -> ClockJumped:
        """Return the fact of the jump that was seen, in words too."""
        topic = self.record.topic
        way = "forward" if self.jump_s > 0 else "back"
        moved = "every deadline moved with it" if self.jump_s > 0 else "its stamps are corrected"
        reason = (
            f"the clock that stamps {topic} jumped {way} by {abs(self.jump_s):.1f} s, measured by "
            f"a monotonic clock: {moved}"
        )
        return ClockJumped(source=topic, by_s=self.jump_s, reason=reason)


class Timekeeper:
    """What an owner knows of log time, through its failures."""

    def __init__(self, partition: int, clock: Clock, metrics: RuntimeMetrics) -> None:
        self._partition = partition
        self._clock = clock
        self._metrics = metrics
        self._kept = self._time = LogTime()
        self._floors: Mapping[str, float | None] = {}

    @property
    def is_sure(self) -> bool:
        """True once it measures: from then on it sees clocks jump."""
        return self._time.is_sure

    def begin(self, last: datetime) -> None:
        """Go on from the last commit; the last fact is of `last`."""
        self._time = self._kept.goes_on_from(last, self._clock.monotonic_s())
        self._floors = {}

    def keep(self) -> None:
        """Note that what was decided with this time is committed."""
        self._kept = self._time

    def now(self) -> datetime:
        """Return what time it is on the log."""
        return self._time.now(self._clock.monotonic_s())

    def before_poll(self, reader: Reader, inputs: Sequence[Partition]) -> None:
        """Note up to when each input had been read to its end."""
        self._floors = {each.topic: reader.read_up_s(each) for each in inputs}

    def timed(self, records: Sequence[Record]) -> Sequence[Timed]:
        """Return the inputs of one poll, each with its time."""
        read_s = self._clock.monotonic_s()
        timed = [self._timed(record, read_s) for record in records]
        if timed:
            self._tell_lag(min(each.at for each in timed))
        return timed

    def _timed(self, record: Record, read_s: float) -> Timed:
        floor_s = self._floors.get(record.topic)
        stamp_s = record.timestamp.timestamp()
        stamp = Stamp(topic=record.topic, stamp_s=stamp_s, read_s=read_s, floor_s=floor_s)
        told = tell(self._time, stamp)
        self._time = told.time
        if floor_s is not None and read_s - floor_s < FRESH_S:
            self._clock.wall.measured(self._clock.now().timestamp() - stamp_s)
        at = time_of(told.at_s)
        if told.at_s == stamp_s:
            at = record.timestamp  # Exactly.
        timed = Timed(record, at, told.jump_s)
        if told.jump_s:
            self._say(timed)
        return timed

    def _say(self, timed: Timed) -> None:
        record = timed.record
        logger.warning(
            "clock.jumped",
            topic=record.topic,
            partition=self._partition,
            offset=record.offset,
            by_s=round(timed.jump_s, 3),
            reason=timed.jump().reason,
        )
        way = "forward" if timed.jump_s > 0 else "back"
        self._metrics.clock_jumps.add(1, {"topic": record.topic, "way": way})

    def _tell_lag(self, oldest: datetime) -> None:
        lag_s = (self.now() - oldest).total_seconds()
        self._metrics.lag.record(max(0.0, lag_s), {"partition": self._partition})
