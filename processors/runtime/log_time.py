"""The time of the log: told by the stamps of its records, measured by the monotonic clock.

A scheduler's wall clock expires no lease and keeps none alive, and neither does the clock of a
broker that is set: stamps say what time it is, the monotonic clock says how long something took.

The protocol. What an owner reads was appended before it was read, so no later than *now*; and if
it had read its topic to the end at some moment, what comes after that was appended no earlier than
this *floor*. A stamp outside these bounds is wrong, whatever clock made it.

- Above now by little, and it is the two clocks' drift: log time follows, as long as that does not
  add up to more than clocks ever drift. By more, and the topic's
  clock is another one (a leader moved): its stamps are shifted from then on. By more than
  `JUMP_S_MIN` in all, and the clock was set forward: log time follows, and because the ledger's
  deadlines move by the same (the fact `ClockJumped`), each lasts as long as was asked.
- Below the floor, and the clock was set back. Log time never goes back, so the stamps of this topic
  are shifted from then on; that is named too. A clock that is set right again takes its shift back.

Until the first record that came after its topic was read to the end, an owner cannot know how far
a stamp should be from the last fact: until then stamps are believed as they are, so a clock that is
set while a partition has no owner is like an outage as long as the jump. It goes on measuring
through its own failures. Time that the machine was suspended is not measured, so it is a jump.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from events.append_time import WallClock, time_of

DRIFT_S = 0.5
"""A stamp that is so little ahead is what log time is; all that is followed adds up."""
DRIFT_RATE = 0.005
"""How much of that is forgotten in a second: far more than clocks drift, or are slewed by."""
JUMP_S_MIN = 30.0
"""A clock that is off by more was set; by less, it is another broker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time as the runtime sees it; the simulation gives its own."""

    now: Callable[[], datetime]
    """Aware UTC."""
    monotonic_s: Callable[[], float]
    wall: WallClock = field(default_factory=lambda: WallClock("scheduler"))
    """How `now` compares with the stamps of inputs that were just appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The stamp of a record as it was read, all in seconds.

    `read_s` is when it was read and `floor_s` when its topic had last been read to the end before,
    by the monotonic clock; None: not since this reader began.
    """

    topic: str
    stamp_s: float
    read_s: float
    floor_s: float | None


@dataclass(frozen=True, slots=True)
class LogTime:
    """What time it is on the log, as far as this process can know; the epoch, told nothing.

    It may be late, never early: nothing is due before its time.
    """

    ahead_s: float = -math.inf
    """How far the log's time is ahead of the monotonic clock."""
    is_sure: bool = False
    """True once it is measured: from then on stamps are judged."""
    shifts_s: Mapping[str, float] = field(default_factory=dict)
    """What is added to the stamps of each topic that was read since it is sure."""
    named_s: Mapping[str, float] = field(default_factory=dict)
    """The shift of each topic that was last named."""
    since_s: float = -math.inf
    """A floor before this is of before a jump, and bounds nothing."""
    drift_until_s: float = -math.inf
    """When all the drift that was followed is forgotten, by the monotonic clock."""

    def now(self, monotonic_s: float) -> datetime:
        """Return the time of the log, aware UTC."""
        return time_of(max(0.0, self.at_s(monotonic_s)))

    def at_s(self, monotonic_s: float) -> float:
        """Return the time of the log, seconds."""
        return monotonic_s + self.ahead_s

    def goes_on_from(self, at: datetime, monotonic_s: float) -> "LogTime":
        """Return it when the last fact is of `at`: it is that late at least."""
        return replace(self, ahead_s=max(self.ahead_s, at.timestamp() - monotonic_s))


@dataclass(frozen=True, slots=True)
class Told:
    """What a stamp says: the time of its record, what time it is, and by how much a clock jumped.

    `jump_s` 0: by nothing. More than 0: forward, so every deadline moves with it.
    """

    time: LogTime
    at_s: float
    jump_s: float = 0.0


def tell(time: LogTime, stamp: Stamp) -> Told:
    """Return what `stamp` says to who knows `time`."""
    if not time.is_sure:
        return _begin(time, stamp)
    now_s, floor_s = time.at_s(stamp.read_s), _floor_s(time, stamp)
    if stamp.topic not in time.shifts_s:
        # Its first: by so much the clocks of two brokers differ, and none has jumped.
        at_s = min(max(stamp.stamp_s, floor_s), now_s)
        return Told(_shifted(time, stamp.topic, at_s - stamp.stamp_s, is_named=True), at_s)
    at_s = stamp.stamp_s + time.shifts_s[stamp.topic]
    if at_s > now_s:
        return _ahead(time, stamp, at_s - now_s)
    return _behind(time, stamp, floor_s) if at_s < floor_s else Told(time, at_s)


def _begin(time: LogTime, stamp: Stamp) -> Told:
    """Believe a stamp; be sure from the first one on that was not kept waiting."""
    time = replace(time, ahead_s=max(time.ahead_s, stamp.stamp_s - stamp.read_s))
    floor_s = _floor_s(time, stamp)
    if math.isinf(floor_s):
        return Told(time, stamp.stamp_s)
    at_s = max(stamp.stamp_s, floor_s)
    time = replace(time, is_sure=True)
    return Told(_shifted(time, stamp.topic, at_s - stamp.stamp_s, is_named=True), at_s)


def _floor_s(time: LogTime, stamp: Stamp) -> float:
    """Return the time before which the record of `stamp` was surely not appended."""
    if stamp.floor_s is None or stamp.floor_s < time.since_s:
        return -math.inf
    return time.at_s(stamp.floor_s)


def _ahead(time: LogTime, stamp: Stamp, by_s: float) -> Told:
    """Return what a stamp says that is ahead of now by `by_s`."""
    now_s = time.at_s(stamp.read_s)
    drift_until_s = max(time.drift_until_s, stamp.read_s) + by_s / DRIFT_RATE
    if drift_until_s - stamp.read_s <= DRIFT_S / DRIFT_RATE:
        ahead_s = time.ahead_s + by_s
        return Told(replace(time, ahead_s=ahead_s, drift_until_s=drift_until_s), now_s + by_s)
    shift_s = time.shifts_s[stamp.topic] - by_s
    if shift_s >= -JUMP_S_MIN:
        is_set_right = shift_s < time.named_s[stamp.topic] - JUMP_S_MIN
        return Told(_shifted(time, stamp.topic, shift_s, is_named=is_set_right), now_s)
    jump_s = -shift_s
    # Topics whose stamps were ahead already are of the clock that jumped: it showed there first.
    shifts_s = {topic: min(s + jump_s, 0.0) if s < 0 else s for topic, s in time.shifts_s.items()}
    named_s = {topic: min(s + jump_s, 0.0) if s < 0 else s for topic, s in time.named_s.items()}
    jumped = replace(
        time,
        ahead_s=time.ahead_s + jump_s,
        shifts_s={**shifts_s, stamp.topic: 0.0},
        named_s={**named_s, stamp.topic: 0.0},
        since_s=stamp.read_s,
    )
    return Told(jumped, now_s + jump_s, jump_s)


def _behind(time: LogTime, stamp: Stamp, floor_s: float) -> Told:
    """Return what a stamp says that is below its floor: its record came just after that."""
    shift_s = floor_s - stamp.stamp_s
    back_s = shift_s - time.named_s[stamp.topic]
    is_named = back_s > JUMP_S_MIN
    time = _shifted(time, stamp.topic, shift_s, is_named=is_named)
    return Told(time, floor_s, -back_s if is_named else 0.0)


def _shifted(time: LogTime, topic: str, shift_s: float, *, is_named: bool) -> LogTime:
    named_s = {**time.named_s, topic: shift_s} if is_named else time.named_s
    return replace(time, shifts_s={**time.shifts_s, topic: shift_s}, named_s=named_s)
