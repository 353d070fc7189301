"""What time it is on the log, as the API knows it, and how wrong the machine's clock is."""

from collections.abc import Callable
from datetime import datetime, timedelta

from opentelemetry import metrics

from api.deps import Deps
from events.append_time import CLOCK_OFFSET, OFF_S_MIN, AppendTime, WallClock

_OFFSET = metrics.get_meter("teo.api").create_gauge(
    CLOCK_OFFSET, unit="s", description="By how much the wall clock is ahead of the log's time."
)


class LogClock:
    """The time by which the API judges ages: never the machine's clock, once anything is known.

    Exact as soon as the log has stamped a command of this process. What the journal says is a
    bound: its newest fact was before now, and it alone knows log time where that is ahead of a
    clock that was set back. Until the first command the machine's clock has to do: what it gets
    wrong by more than repeats are known, the scheduler tells, and the command is sent once more.
    """

    def __init__(
        self, deps: Deps, newest_at: Callable[[], datetime | None], monotonic_s: Callable[[], float]
    ) -> None:
        self._deps = deps
        self._newest_at = newest_at
        self._journal = AppendTime(monotonic_s)
        self._newest: datetime | None = None
        self.wall = WallClock("api")

    def now(self) -> datetime:
        """Return what time it is on the log, aware UTC."""
        exact, journal = self._deps.log.time.now(), self._by_journal()
        told = exact or self._deps.clock()
        return told if journal is None else max(told, journal)

    def is_older(self, issued_at: datetime, limit: timedelta) -> bool:
        """Return True if the log surely takes what was issued then for older than `limit`."""
        exact = self._deps.log.time.now()
        return exact is not None and exact - issued_at > limit

    def lead(self) -> timedelta:
        """Return by how much log time is ahead of what the log stamps now, as far as is known."""
        exact, journal = self._deps.log.time.now(), self._by_journal()
        if exact is None or journal is None:
            return timedelta(0)
        return max(timedelta(0), journal - exact)

    def measure(self) -> WallClock:
        """Compare the machine's clock with the log's, as far as this is known."""
        exact = self._deps.log.time.now()
        if exact is None:
            return self.wall
        stale_s = self._journal.stamped_s - self._deps.log.time.stamped_s
        if stale_s > OFF_S_MIN and self.lead().total_seconds() > OFF_S_MIN:
            return self.wall  # The log's clock was set since the last command of this process.
        ahead_s = (self._deps.clock() - exact).total_seconds()
        self.wall.measured(ahead_s)
        _OFFSET.set(ahead_s)
        return self.wall

    def _by_journal(self) -> datetime | None:
        """Return how late it is at least, by the newest fact."""
        newest = self._newest_at()
        if newest is not None and newest != self._newest:
            self._newest = newest
            known = self._journal.now()
            if known is None or newest > known:
                self._journal.stamped(newest)
        return self._journal.now()
