"""The fault memory: which trouble codes the supply monitor stored."""

LOW_VOLTAGE = 0x056200  # P0562
HIGH_VOLTAGE = 0x056300  # P0563
LOW_MV, HIGH_MV = 9_000, 32_000

FAILED = 0x01
CONFIRMED = 0x08
AVAILABLE = FAILED | CONFIRMED


class FaultMemory:
    """Trouble codes by number, with their status bits of ISO 14229-1."""

    def __init__(self) -> None:
        self._status: dict[int, int] = {}

    def monitor(self, millivolts: int) -> None:
        """Look at the supply: a fault is stored, and stays when the cause is gone."""
        for code, is_bad in (
            (LOW_VOLTAGE, millivolts < LOW_MV),
            (HIGH_VOLTAGE, millivolts > HIGH_MV),
        ):
            if is_bad:
                self._status[code] = FAILED | CONFIRMED
            elif code in self._status:
                self._status[code] &= ~FAILED

    def matching(self, mask: int) -> list[tuple[int, int]]:
        """Return code and status of each fault that has a bit of `mask`, by code."""
        return [(code, status) for code, status in sorted(self._status.items()) if status & mask]

    def clear(self) -> None:
        """Forget all."""
        self._status.clear()
