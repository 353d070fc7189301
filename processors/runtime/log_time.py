"""The time of the log, told by its records and carried on by the monotonic clock in between.

So a scheduler's wall clock expires no lease and keeps none alive. Where nothing is written, an
owner knows the time from the last fact on: while the partition had no owner, its time stood still.
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
    """What time it is on the log, as far as this process can know; the epoch, told nothing.

    It may be late, never early: nothing is due before its time.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._ahead_s = -monotonic_s()
        """How far the log's newest record was ahead of the monotonic clock when it was read."""

    def saw(self, appended_at: datetime) -> None:
        """Note a record that was just read. One that waited long says less than a fresh one."""
        self._ahead_s = max(self._ahead_s, appended_at.timestamp() - self._monotonic_s())

    def now(self) -> datetime:
        """Return the time of the log, aware UTC."""
        return datetime.fromtimestamp(self._monotonic_s() + self._ahead_s, UTC)
