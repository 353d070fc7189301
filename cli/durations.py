"""Durations as people write and read them: `2h30m` in, `1m05s` out; never a bare number in."""

import math
import re

from cli.problems import BadUsage

DURATION_S_MAX = 366 * 86_400.0
_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_HINT = "write it like 90s, 10m, 2h30m or 1d"


def parse(text: str, *, name: str) -> float:
    """Return the seconds that `text` says; `name` is the flag or key it came from."""
    compact = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        raise BadUsage(f"{name}: {text!r} has no unit", next_step=f"{_HINT}, as in {compact}s")
    if not compact.isascii() or not _WHOLE.fullmatch(compact):
        raise BadUsage(f"{name}: {text!r} is no duration", next_step=_HINT)
    parts = _PART.findall(compact)
    units = [unit for _, unit in parts]
    if units != sorted(set(units), key=list(_UNIT_S).index):
        raise BadUsage(f"{name}: {text!r} repeats a unit or has them out of order", next_step=_HINT)
    seconds = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not 0 < seconds <= DURATION_S_MAX:
        raise BadUsage(
            f"{name}: {text!r} must be longer than nothing and at most "
            f"{int(DURATION_S_MAX // 86_400)}d"
        )
    return seconds


def parse_optional(text: str | None, *, name: str) -> float | None:
    """Return `parse(text)`, or None if nothing was given."""
    return None if text is None else parse(text, name=name)


def humanise(seconds: float | None) -> str:
    """Return a short text for `seconds` with the two biggest units that matter."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return f"-{humanise(-seconds)}"
    if seconds < 0.9995:
        return f"{round(seconds * 1_000)}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = math.floor(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"
