"""Starts `teo` with a wall clock that is as wrong as a file says; monotonic clocks stay right."""

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any, Self

OFFSET_FILE = "TEO_CHAOS_CLOCK"

_real_time, _real_time_ns = time.time, time.time_ns
_RealDatetime = dt.datetime


def _offset_s() -> float:
    try:
        return float(Path(os.environ[OFFSET_FILE]).read_text())
    except (OSError, KeyError, ValueError):
        return 0.0


class _Kind(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, _RealDatetime)


class _Shifted(_RealDatetime, metaclass=_Kind):
    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Return a plain datetime: who looks at types, as JSON encoders do, sees nothing odd."""
        return _RealDatetime(*given, **named)

    @classmethod
    def now(cls, tz: Any = None) -> Self:
        """Return the wrong time."""
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Self:
        """Return the wrong time."""
        return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


def shift() -> None:
    """Replace what tells the wall clock's time."""
    time.time = lambda: _real_time() + _offset_s()
    time.time_ns = lambda: _real_time_ns() + int(_offset_s() * 1e9)
    dt.datetime = _Shifted  # type: ignore[misc]


if __name__ == "__main__":
    shift()
    from cli.main import main

    main()
