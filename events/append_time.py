"""What time it is on the log, by what this process appended; and how wrong its own clock is.

Our topics stamp each record when it is appended, and say so to whoever appended it: from then on
the monotonic clock tells the time. So nothing that is decided by it trusts a wall clock.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

logger = structlog.get_logger()

CLOCK_OFFSET = "teo_clock_offset"
"""The metric of each role that measures it: seconds that its wall clock is ahead."""
OFF_S_MIN = 60.0
"""A wall clock that is off by more is said to be: answers show its times, tests run by it."""
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


def time_of(at_s: float) -> datetime:
    """Return a stamp as a time, aware UTC; beyond the calendar, the first or the last there is.

    Where senders set it a topic takes any number, and nobody may stumble over it.
    """
    try:
        return datetime.fromtimestamp(at_s, UTC)
    except (ValueError, OverflowError):
        return EARLIEST if at_s < 0 else LATEST


class AppendTime:
    """The time of the log, for one process; unknown until something was appended."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._ahead_s: float | None = None
        self.stamped_s = 0.0
        """When the newest stamp was told, by the monotonic clock."""

    def stamped(self, at: datetime) -> None:
        """Note the stamp of a record that was acknowledged just now."""
        self.stamped_s = self._monotonic_s()
        self._ahead_s = at.timestamp() - self.stamped_s

    def now(self) -> datetime | None:
        """Return what time it is on the log, aware UTC; None: nothing was appended yet."""
        if self._ahead_s is None:
            return None
        return datetime.fromtimestamp(self._monotonic_s() + self._ahead_s, UTC)


class WallClock:
    """The wall clock of a process beside the log's time: it says when it is off, once."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._is_off = False
        self.ahead_s: float | None = None
        """By how much it is ahead, seconds; less than 0: behind; None: not measured yet."""

    @property
    def is_off(self) -> bool:
        """True if it is off by more than clocks that are looked after ever are."""
        return self._is_off

    def measured(self, ahead_s: float) -> None:
        """Note by how much it is ahead of the log's time."""
        self.ahead_s = ahead_s
        is_off = bool(clock_fault(ahead_s))
        if is_off == self._is_off:
            return
        self._is_off = is_off
        if is_off:
            logger.warning(
                "clock.off", role=self._role, ahead_s=round(ahead_s, 3), text=self.text()
            )
        else:
            logger.info("clock.right", role=self._role, ahead_s=round(ahead_s, 3))

    def text(self) -> str:
        """Return how it is, in words."""
        if self.ahead_s is None:
            return "not measured yet"
        if not self._is_off:
            return f"{self.ahead_s:+.3f} s beside the log's time"
        return clock_fault(self.ahead_s)


def clock_fault(ahead_s: float) -> str:
    """Return what is wrong with a wall clock that is so far ahead of the log; empty: nothing."""
    if abs(ahead_s) <= OFF_S_MIN:
        return ""
    way = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"this machine's clock is {abs(ahead_s):.0f} s {way} the log's time: set the clock that is "
        "wrong, this one or the broker's (NTP)"
    )
