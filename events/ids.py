"""Ids that follow from what they are for: the same whenever the same decision is made again.

An event's id follows from its time and its place, so it can be told for every record of the
journal whether a scheduler could have written it there.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from events.shared import EventMeta

ID_HEADER = "ce_id"


def derived_id(at: datetime, what: str) -> str:
    """Return a UUIDv7 of the time `at` whose other bits are a digest of `what`."""
    return _id(int(at.timestamp() * 1000), what)


def _id(at_ms: int, what: str) -> str:
    digest = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=10).digest())
    value = at_ms << 80 | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_id(at: datetime, partition: int, seq: int) -> str:
    """Return the id of the event with number `seq` of a partition, decided at `at`."""
    return derived_id(at, f"event/{partition}/{seq}")


def is_in_place(meta: EventMeta, partition: int) -> bool:
    """Return True if an event has the id that a scheduler gives to its place."""
    return meta.event_id == event_id(meta.occurred_at, partition, meta.seq)


def is_of_time(text: str, at: datetime) -> bool:
    """Return True if `text` may be an id that `derived_id` gave at the time `at`."""
    made = derived_id(at, "")
    return len(text) == len(made) and text[:15] == made[:15]


def claims_place(headers: Mapping[str, bytes], partition: int, seq: int) -> bool:
    """Return True if a record's headers have an id that only the event `seq` of it can have.

    A fact that this version cannot decode is known by it. The time is taken from the id itself.
    """
    try:
        text = headers.get(ID_HEADER, b"").decode("ascii")
        at_ms = int(text[:13].replace("-", ""), 16)
    except ValueError:
        return False
    return text == _id(at_ms, f"event/{partition}/{seq}")
