"""The board: what the ECU's software measures, remembers and counts time with.

A test changes the world here (supply voltage, time), never inside the software under test.
"""

import itertools
import threading
from dataclasses import dataclass, field

ADC_BITS = 12
ADC_FULL_SCALE_V = 36.3  # A 3.3 V converter behind a divider of 1:11.
FACTORY_VIN = "TEOVECU0000000042"


class Clock:
    """The ECU's time in seconds. It stands still until a test moves it, so no test waits for it."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Return the time since power was first applied."""
        with self._lock:
            return self._now_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        with self._lock:
            self._now_s += seconds


@dataclass
class Board:
    """One ECU's hardware."""

    supply_v: float = 12.6
    clock: Clock = field(default_factory=Clock)
    memory: dict[str, str] = field(default_factory=lambda: {"vin": FACTORY_VIN})
    _seeds: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def supply_counts(self) -> int:
        """Return what the analogue-digital converter reads at the supply pin."""
        top = (1 << ADC_BITS) - 1
        return max(0, min(top, round(self.supply_v / ADC_FULL_SCALE_V * top)))

    def noise(self) -> int:
        """Return the next 32 bits for a seed: never the same twice, the same in every run."""
        return (next(self._seeds) * 0x9E3779B1) & 0xFFFFFFFF
