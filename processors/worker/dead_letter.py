"""A record that no worker can take, as it is set aside. Pure."""

import traceback
from datetime import datetime

from events.dlq import DeadLetter
from events.log import Record

STACK_CHARS_MAX = 8_000


def dead_letter(
    record: Record, error: Exception, *, found_by: str, found_at: datetime
) -> DeadLetter:
    """Return `record`, whole, with what is wrong with it."""
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=dict(record.headers),
        error=str(error),
        stack="".join(traceback.format_exception(error))[-STACK_CHARS_MAX:],
        found_by=found_by,
        found_at=found_at,
    )
