"""The worker's clocks, handed in so that a simulation can own them. Never read elsewhere."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall clock for people, monotonic clock for deadlines."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC. Never used for a decision."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; the loop's own time unless something better is."""
        ...
