"""A record that nobody could take, as it is set aside; and its name. Pure."""

import re
import traceback
from datetime import datetime

from events.dlq import DeadLetter
from events.log import Position, Record

STACK_CHARS_MAX = 8_000
REPLAYED_FROM = "teo_letter"
"""Header of a record that was put back: the id of the letter it comes from."""
_ID = re.compile(r"(\d{1,5})-(\d{1,18})")


def letter_id(position: Position) -> str:
    """Return the id of the letter at `position` of the dead letters' topic."""
    return f"{position.partition}-{position.offset}"


def position_of(text: str) -> Position | None:
    """Return where the letter named `text` stands; None if that is no letter's id."""
    found = _ID.fullmatch(text)
    return None if found is None else Position(int(found[1]), int(found[2]))


def dead_letter(
    record: Record, error: BaseException, *, pool: str, found_by: str, found_at: datetime
) -> DeadLetter:
    """Return `record`, whole, with what is wrong with it."""
    stack = "".join(traceback.format_exception(error))
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=dict(record.headers),
        error=f"{type(error).__name__}: {error}",
        stack=stack[-STACK_CHARS_MAX:],
        found_by=found_by,
        found_at=found_at,
        pool=pool,
    )
