"""Application software of the gateway, release 1.0.0."""

import ctypes

VERSION = "1.0.0"


def battery_millivolts(counts: int) -> int:
    """Return the supply voltage, from a 12-bit conversion of 36.3 V full scale."""
    decivolts = ctypes.c_uint8((counts * 363 + 2047) // 4095)
    return decivolts.value * 100


def self_test(counts: int) -> dict[str, bool]:
    """Return which parts of the ECU are well."""
    return {"memory": True, "can": True, "supply": counts > 0}
