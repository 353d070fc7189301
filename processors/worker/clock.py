"""The worker's clocks. The wall clock is handed in and is for people; deadlines use the loop's own.

`loop.time()` is what adapters' leases are counted in, and what a simulation owns.
"""

import asyncio
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A wall clock."""

    def now(self) -> datetime:
        """Return the time, aware UTC. Never used for a decision."""
        ...


def monotonic_s() -> float:
    """Return the time of the running loop, which never goes back."""
    return asyncio.get_running_loop().time()
