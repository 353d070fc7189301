"""Faust's messages as records of the log. Changes nothing in them."""

from typing import Any

from faust.types import Message

from events.append_time import time_of
from events.log import Record, told_headers


def record_of(message: Message) -> Record:
    """Return what Faust read, as every other reader has it."""
    headers: Any = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp=time_of(message.timestamp or 0.0),
        key=message.key,
        value=message.value,
        headers=told_headers(pairs),
    )
