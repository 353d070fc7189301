"""The time of the log, told by its records and carried on by the monotonic clock in between.

So a jump of a scheduler's wall clock expires no lease and keeps none alive: that clock counts only
until the first record is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time as the runtime sees it; the simulation gives its own."""

    now: Callable[[], datetime]
    """Aware UTC."""
    monotonic_s: Callable[[], float]


class LogTime:
    """What time it is on the log, as far as this process can know."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s: float | None = None
        """How far the log's newest record was ahead of the monotonic clock when it was read."""

    def saw(self, appended_at: datetime) -> None:
        """Note a record that was just read. One that waited long says less than a fresh one."""
        ahead_s = appended_at.timestamp() - self._clock.monotonic_s()
        self._ahead_s = ahead_s if self._ahead_s is None else max(self._ahead_s, ahead_s)

    def now(self) -> datetime:
        """Return the time of the log, aware UTC."""
        if self._ahead_s is None:
            return self._clock.now()
        return datetime.fromtimestamp(self._clock.monotonic_s() + self._ahead_s, UTC)
