"""How values of events are kept in columns, and read back. Never loses a microsecond."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Return a time as microseconds since 1970, UTC: it sorts and compares as a number."""
    return (at - _EPOCH) // _MICROSECOND


def micros_or_none(at: datetime | None) -> int | None:
    """Return `micros(at)`, or None for no time."""
    return None if at is None else micros(at)


def moment(value: int) -> datetime:
    """Return the time that `micros` made a number of."""
    return _EPOCH + timedelta(microseconds=value)


def moment_or_none(value: int | None) -> datetime | None:
    """Return `moment(value)`, or None for no time."""
    return None if value is None else moment(value)


def text_of(value: tuple[Any, ...] | Mapping[str, str]) -> str:
    """Return a sequence or mapping as JSON with sorted keys: equal values are equal texts."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def of_text(text: str) -> Any:
    """Return what `text_of` wrote."""
    return orjson.loads(text)
