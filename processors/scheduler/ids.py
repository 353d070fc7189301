"""Ids that follow from what they are for: the same whenever the same decision is made again."""

import hashlib
from datetime import datetime


def derived_id(at: datetime, what: str) -> str:
    """Return a UUIDv7 of the time `at` whose other bits are a digest of `what`."""
    digest = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=10).digest())
    value = int(at.timestamp() * 1000) << 80 | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
