"""Whether the log still hears this worker: the deadline after which it must give up.

Counts from when the last acknowledged word was SENT, so the worker always gives up before the
scheduler, which counts from when it received it. Never reads a clock.
"""


class Contact:
    """The contact of one life; once lapsed it stays lapsed, whatever comes back later.

    A process that was stopped for a minute and then sees an acknowledgement must not believe it
    was heard all along: the gap counts, not the newest word.
    """

    def __init__(self, *, sent_at: float, deadline_s: float) -> None:
        self._sent_at = sent_at
        self._deadline_s = deadline_s
        self._lapsed = False
        self.is_made = False
        """True once anything was acknowledged."""

    def acknowledged(self, *, sent_at: float, now: float) -> bool:
        """Note that what was sent at `sent_at` is on the log; return False if that is too late."""
        if not self.is_fresh(now):
            return False
        self._sent_at = max(self._sent_at, sent_at)
        self.is_made = True
        return True

    def is_fresh(self, now: float) -> bool:
        """Return True while the worker may drive its benches."""
        if self.left_s(now) <= 0:
            self._lapsed = True
        return not self._lapsed

    @property
    def until(self) -> float:
        """The instant at which the worker must give up unless something more is acknowledged."""
        return self._sent_at + self._deadline_s

    def left_s(self, now: float) -> float:
        """Return the seconds until it must give up; 0 if it must now."""
        return 0.0 if self._lapsed else max(0.0, self.until - now)
