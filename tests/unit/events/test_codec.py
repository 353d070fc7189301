"""Every message survives the wire as it was; what is no message is named, never guessed."""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import codec, registry
from events.errors import Undecodable, UnknownSchema
from events.message import Message
from tests.golden import samples

NAMES = registry.message_names()
LONGS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC))
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    int: LONGS,
    float: st.floats(allow_nan=False),
    datetime: TIMES,
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return every value of a field of type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of(
            st.none() if argument is type(None) else values(argument) for argument in arguments
        )
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(), values(arguments[1]), max_size=3)
    if hint in SCALARS:
        return SCALARS[hint]
    return records(hint)


def records(cls: type) -> st.SearchStrategy[Any]:
    """Return every record of a class."""
    return st.builds(cls, **{name: values(hint) for name, hint in get_type_hints(cls).items()})


def messages(name: str) -> st.SearchStrategy[Any]:
    """Return every message of a type."""
    cls, meta = codec._class_of(name)
    return records(cls) if meta is None else st.builds(Message, records(meta), records(cls))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_decode_gives_what_was_encoded(name, data):
    message = data.draw(messages(name))
    wire = codec.encode(message)
    decoded = codec.decode(wire)
    assert decoded == message
    assert type(decoded) is type(message)
    assert codec.type_name(decoded) == name
    assert codec.encode(decoded) == wire


@pytest.mark.parametrize("name", NAMES)
def test_wire_begins_with_the_magic_byte_and_the_newest_id(name):
    wire = codec.encode(samples.message(name, full=True))
    assert struct.unpack_from(">bI", wire) == (0, registry.newest()[name].schema_id)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_decode_or_are_undecodable(noise):
    for schema_id in (1, len(registry.published())):
        with_prefix = struct.pack(">bI", 0, schema_id) + noise
        for data in (noise, with_prefix):
            try:
                codec.decode(data)
            except Undecodable:
                continue


@pytest.mark.parametrize("name", NAMES)
def test_half_a_message_is_undecodable_wherever_it_is_cut(name):
    wire = codec.encode(samples.message(name, full=True))
    for size in range(len(wire)):
        with pytest.raises(Undecodable):
            codec.decode(wire[:size])


WIRE = codec.encode(samples.message("BenchOnline", full=True))
BODY_AT = 5


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        pytest.param(None, Undecodable, "0 bytes is no message", id="a tombstone"),
        pytest.param(b"", Undecodable, "0 bytes is no message", id="nothing"),
        pytest.param(b"\0\0\0\0", Undecodable, "4 bytes is no message", id="half a prefix"),
        pytest.param(b'{"a": 1}', Undecodable, "first byte is 123", id="JSON"),
        pytest.param(b"\1" + WIRE[1:], Undecodable, "first byte is 1, not 0", id="another magic"),
        pytest.param(b"\0\0\0\0\0", UnknownSchema, "id 0 is not published", id="id 0"),
        pytest.param(
            b"\0\xff\xff\xff\xff" + WIRE[BODY_AT:], UnknownSchema, "id 4294967295", id="unknown id"
        ),
        pytest.param(WIRE[:BODY_AT], Undecodable, "EOFError", id="no body"),
        pytest.param(WIRE[:-1], Undecodable, "schema id", id="one byte short"),
        pytest.param(WIRE + b"\0", Undecodable, "1 bytes left over", id="one byte more"),
        pytest.param(
            WIRE[:BODY_AT] + b"\x04\xff\xfe" + WIRE[BODY_AT:],
            Undecodable,
            "UnicodeDecodeError",
            id="text that is not UTF-8",
        ),
        pytest.param(
            WIRE[:BODY_AT] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",
            Undecodable,
            "schema id",
            id="text that says it is huge",
        ),
        pytest.param(
            WIRE[:BODY_AT] + b"\x01", Undecodable, "schema id", id="text of negative length"
        ),
    ],
)
def test_what_is_no_message_is_named(data, error, said):
    with pytest.raises(error, match=said):
        codec.decode(data)


@pytest.mark.parametrize("family", ["commands", "reports", "events", "tasks"])
def test_a_topic_takes_its_own_family_only(family):
    decode = getattr(codec, f"decode_{family.removesuffix('s')}")
    for name in NAMES:
        message = samples.message(name, full=False)
        if registry.family_of(name) == family:
            assert decode(codec.encode(message)) == message
        else:
            with pytest.raises(Undecodable, match=f"a {name} does not belong on the {family}"):
                decode(codec.encode(message))


def test_a_message_with_a_wrong_type_in_it_is_not_written():
    message = samples.message("BenchOnline", full=True)
    wrong = Message(message.meta, type(message.body)(bench=7))
    with pytest.raises((TypeError, ValueError)):
        codec.encode(wrong)
