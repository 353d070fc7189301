"""A record that nobody could take, as it is set aside; and its name. Pure.

A letter is never bigger than its topic takes, whatever the record is: of what is too long a part
is kept, and then the letter says how long the value was, and its hash.
"""

import re
import traceback
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

from events.dlq import DeadLetter
from events.log import Position, Record
from events.topics import OUTPUT_BYTES_MAX

STACK_CHARS_MAX = 8_000
ERROR_CHARS_MAX = 2_000
KEY_BYTES_MAX = 64 * 1024
"""The key stands in the letter, and is the letter's own key too."""
HEADERS_BYTES_MAX = 64 * 1024
POOL_CHARS_MAX = 256
"""The name of a pool has at most half as many."""
VALUE_BYTES_MAX = OUTPUT_BYTES_MAX - 2 * KEY_BYTES_MAX - HEADERS_BYTES_MAX - 128 * 1024
"""What remains when all else is as long as it may be; `INPUT_BYTES_MAX` is far below it."""
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
    """Return `record` with what is wrong with it: whole, if the letter takes that much."""
    stack = "".join(traceback.format_exception(error))
    key = None if record.key is None else record.key[:KEY_BYTES_MAX]
    value = None if record.value is None else record.value[:VALUE_BYTES_MAX]
    given = {name: content or b"" for name, content in record.headers.items()}
    headers = _first(given)
    is_whole = (key, value, headers) == (record.key, record.value, given)
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_timestamp=record.timestamp,
        key=key,
        value=value,
        headers=headers,
        error=told(error),
        stack=_text(stack[-STACK_CHARS_MAX:]),
        found_by=found_by,
        found_at=found_at,
        pool=pool,
        whole_bytes=None if is_whole else len(record.value or b""),
        whole_sha256="" if is_whole else sha256(record.value or b"").hexdigest(),
    )


def pool_of(record: Record) -> str:
    """Return the pool that the key of an input names, however garbled."""
    return (record.key or b"").decode("utf-8", "replace")[:POOL_CHARS_MAX]


def told(error: BaseException) -> str:
    """Return what is wrong, in one text that is never too long."""
    return _text(f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX])


def _text(text: str) -> str:
    """Return `text` as it can be written, whatever it quotes."""
    return text.encode(errors="replace").decode()


def _first(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return as many of `headers` as a letter takes, from the first on."""
    kept: dict[str, bytes] = {}
    size_bytes = 0
    for name, content in headers.items():
        size_bytes += len(name.encode()) + len(content) + 16
        if size_bytes > HEADERS_BYTES_MAX:
            break
        kept[name] = content
    return kept
