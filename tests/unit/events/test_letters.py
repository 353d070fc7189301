"""A dead letter fits on its topic whatever it is a letter of, and says what is missing."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from events.codec import decode, encode
from events.dlq import DeadLetter
from events.letters import dead_letter, pool_of, told
from events.log import Outgoing, Record
from events.topics import INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Topics
from processors.runtime.records import set_aside_record

AT = datetime(2026, 1, 5, tzinfo=UTC)
WIRE_BYTES = 1_000
"""More than a record costs beside what it holds."""


def record(value: bytes | None, key: bytes | None = b"lab", **headers: bytes) -> Record:
    return Record(
        topic="t.commands",
        partition=0,
        offset=7,
        timestamp=AT,
        key=key,
        value=value,
        headers=headers,
    )


def letter_of(given: Record, error: Exception | None = None) -> tuple[DeadLetter, Outgoing]:
    written = set_aside_record(Topics("t"), given, error or ValueError("no"), AT)
    assert written.size_bytes + WIRE_BYTES <= OUTPUT_BYTES_MAX
    found = decode(written.value)
    assert isinstance(found, DeadLetter)
    return found, written


@pytest.mark.parametrize("size", [0, 1_048_000, INPUT_BYTES_MAX])
def test_every_input_that_comes_as_it_is_stands_whole(size: int) -> None:
    given = record(b"\0" * size, ce_type=b"X")
    found, _ = letter_of(given)
    assert (found.value, found.key, found.headers) == (given.value, b"lab", {"ce_type": b"X"})
    assert (found.whole_bytes, found.whole_sha256) == (None, "")


def test_of_a_longer_one_the_beginning_the_length_and_the_hash_are_kept() -> None:
    value = b"ab" * 10_000_000
    found, _ = letter_of(record(value))
    assert found.value is not None
    assert INPUT_BYTES_MAX < len(found.value) < OUTPUT_BYTES_MAX
    assert value.startswith(found.value)
    assert found.whole_bytes == len(value)
    assert found.whole_sha256 == sha256(value).hexdigest()
    assert (found.source_topic, found.source_partition, found.source_offset) == ("t.commands", 0, 7)


def test_key_headers_error_and_stack_are_cut_too() -> None:
    error = ValueError("\U0001f4a5" * 1_000_000)
    given = record(b"v" * 20_000_000, b"\xff" * 9_000_000, a=b"h" * 100, b=b"h" * 5_000_000, c=b"")
    found, written = letter_of(given, error)
    assert found.headers == {"a": b"h" * 100}
    assert given.key is not None
    assert found.key is not None
    assert given.key.startswith(found.key)
    assert written.key == found.key
    assert found.whole_bytes == 20_000_000


def test_a_letter_whose_value_is_whole_and_whose_key_is_not_is_cut() -> None:
    found, _ = letter_of(record(b"value", b"k" * 1_000_000))
    assert (found.value, found.whole_bytes) == (b"value", 5)
    assert found.whole_sha256 == sha256(b"value").hexdigest()


def test_what_other_clients_may_write_is_no_trouble() -> None:
    found, _ = letter_of(record(None, None, empty=None))  # type: ignore[arg-type]
    assert (found.value, found.key, found.headers) == (None, None, {"empty": b""})
    assert found.whole_bytes is None
    assert told(ValueError("\ud800")) == "ValueError: ?"
    assert len(pool_of(record(b"", b"\xff" * 1_000_000)).encode()) < 1_000


def test_a_letter_of_before_is_whole() -> None:
    letter = dead_letter(record(b"v"), ValueError(), pool="lab", found_by="test", found_at=AT)
    assert decode(encode(letter)) == letter
    assert letter.whole_bytes is None
