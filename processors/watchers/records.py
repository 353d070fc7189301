"""Faust's messages as records of the log. Changes nothing in them."""

from datetime import UTC, datetime
from typing import Any

from faust.types import Message

from events.log import Record, told_headers


def record_of(message: Message) -> Record:
    """Return what Faust read, as every other reader has it."""
    headers: Any = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp=datetime.fromtimestamp(message.timestamp or 0.0, UTC),
        key=message.key,
        value=message.value,
        headers=told_headers(pairs),
    )
