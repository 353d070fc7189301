"""Sizes as people write them: `512M`, `2G`, or a number of bytes. Powers of 1024."""

import re

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")


def parse_size(text: str) -> int:
    """Return the bytes that `text` says. Raises `ValueError` with how it is written."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: write a number and K, M, G or T, such as 512M")
    return int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper()))


def size_text(size_bytes: int) -> str:
    """Return a size as people read it: at most one digit behind the point."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + (f" {unit}iB" if unit else " B")
