"""Cursors of lists: the key of the last row given, made opaque. Never trusts what comes back."""

import base64
import binascii
from collections.abc import Sequence

import orjson

from projections.rows import InvalidCursor

Key = tuple[str | int, ...]


def encode(kind: str, key: Key) -> str:
    """Return the cursor of a list of `kind` that goes on after `key`."""
    return base64.urlsafe_b64encode(orjson.dumps([kind, *key])).decode().rstrip("=")


def decode(kind: str, cursor: str, types: Sequence[type]) -> Key:
    """Return the key in `cursor`; raises `InvalidCursor` unless it is of `kind` and `types`."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(raw)
    except (binascii.Error, ValueError) as error:
        raise _invalid(kind) from error
    if not isinstance(found, list) or found[:1] != [kind]:
        raise _invalid(kind)
    key = found[1:]
    if [type(part) for part in key] != list(types):
        raise _invalid(kind)
    if any(isinstance(part, int) and abs(part) >= 1 << 63 for part in key):
        raise _invalid(kind)
    return tuple(key)


def _invalid(kind: str) -> InvalidCursor:
    return InvalidCursor(
        f"this is no cursor of a list of {kind}; take `next_cursor` of the part before as it is"
    )
