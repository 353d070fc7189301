"""A rate limit with a burst, on a clock that is handed in. Never waits."""


class TokenBucket:
    """Gives out `rate` tokens per second, at most `burst` at once.

    Once it has run dry it gives nothing until half full again: on and off in long spells, so that
    who is limited can say so once per spell.
    """

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        assert rate > 0
        assert burst > 0
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now
        self._is_dry = False

    def can_take(self, count: float, now: float) -> bool:
        """Return True if `count` tokens may be taken now."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._is_dry and self._level >= self._burst / 2:
            self._is_dry = False
        if self._level < min(count, self._burst):
            self._is_dry = True
        return not self._is_dry

    def take(self, count: float) -> None:
        """Take `count` tokens that `can_take` allowed."""
        self._level -= count
