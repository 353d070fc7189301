"""The check of compatibility refuses what breaks a reader, and fastavro agrees with it."""

import copy
import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

from tests.contract.compatibility import breaks

Schema = dict[str, Any]

BASE: Schema = {
    "type": "record",
    "name": "Sample",
    "namespace": "teo",
    "fields": [
        {
            "name": "part",
            "type": {
                "type": "record",
                "name": "Part",
                "namespace": "teo",
                "fields": [{"name": "name", "type": "string"}],
            },
        },
        {"name": "parts", "type": {"type": "array", "items": "teo.Part"}},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "count", "type": "long"},
        {"name": "code", "type": ["null", "long"], "default": None},
    ],
}
VALUE = {
    "part": {"name": "a"},
    "parts": [{"name": "b"}],
    "labels": {"board": "rpi4"},
    "at": 1_767_323_045_678_901,
    "count": 7,
    "code": 0,
}


def changed(change: Callable[[Schema], object]) -> Schema:
    """Return the base schema with `change` made to it."""
    schema = copy.deepcopy(BASE)
    change(schema)
    return schema


def field(schema: Schema, name: str) -> Schema:
    """Return one field of a schema."""
    return next(entry for entry in schema["fields"] if entry["name"] == name)


def part(schema: Schema) -> Schema:
    """Return the inner record."""
    return field(schema, "part")["type"]


COMPATIBLE = {
    "nothing": lambda _: None,
    "an optional field is added": lambda s: s["fields"].append(
        {"name": "reason", "type": ["null", "string"], "default": None}
    ),
    "a field with a default is added": lambda s: s["fields"].append(
        {"name": "first", "type": "long", "default": 0}
    ),
    "a field with a default is added to a part": lambda s: part(s)["fields"].append(
        {"name": "kind", "type": "string", "default": ""}
    ),
    "a field with a default is removed": lambda s: s["fields"].remove(field(s, "code")),
    "fields change places": lambda s: s["fields"].insert(3, s["fields"].pop()),
    "docs change": lambda s: s.update(doc="Another."),
}

# Name of the change, the change, which direction breaks, what is said of it.
INCOMPATIBLE = [
    (
        "a field without a default is added",
        lambda s: s["fields"].append({"name": "reason", "type": "string"}),
        "new reads old",
        ".reason: only one side has it",
    ),
    (
        "a field without a default is removed",
        lambda s: s["fields"].remove(field(s, "count")),
        "old reads new",
        ".count: only one side has it",
    ),
    (
        "a field is renamed",
        lambda s: field(s, "count").update(name="counts"),
        "new reads old",
        ".counts: only one side has it",
    ),
    (
        "a part gets a field without a default",
        lambda s: part(s)["fields"].append({"name": "kind", "type": "string"}),
        "new reads old",
        ".part.kind: only one side has it",
    ),
    (
        "a number becomes text",
        lambda s: field(s, "count").update(type="string"),
        "new reads old",
        ".count: was long, is string",
    ),
    (
        "a number becomes wider",
        lambda s: field(s, "count").update(type="double"),
        "old reads new",
        ".count: was double, is long",
    ),
    (
        "a field becomes optional",
        lambda s: field(s, "count").update(type=["null", "long"], default=None),
        "old reads new",
        ".count: was null, is long",
    ),
    (
        "an optional field becomes a must",
        lambda s: field(s, "code").update(type="long", default=0),
        "new reads old",
        ".code: was null, is long",
    ),
    (
        "items change",
        lambda s: field(s, "parts")["type"].update(items="long"),
        "new reads old",
        ".parts[]: was record, is long",
    ),
    (
        "values change",
        lambda s: field(s, "labels")["type"].update(values="long"),
        "new reads old",
        ".labels{}: was string, is long",
    ),
    (
        "a list becomes a map",
        lambda s: field(s, "parts").update(type={"type": "map", "values": "string"}),
        "new reads old",
        ".parts: was array, is map",
    ),
]
# fastavro resolves what these wrote without a word: only the rules see them.
SEEN_BY_RULES_ALONE = [
    (
        "a time becomes a number",
        lambda s: field(s, "at").update(type="long"),
        "new reads old",
        ".at: was long (timestamp-micros), is long",
    ),
    (
        "a time gets another unit",
        lambda s: field(s, "at")["type"].update(logicalType="timestamp-millis"),
        "new reads old",
        ".at: was long (timestamp-micros), is long (timestamp-millis)",
    ),
    (
        "a part gets another name",
        lambda s: (
            part(s).update(name="Piece"),
            field(s, "parts")["type"].update(items="teo.Piece"),
        ),
        "new reads old",
        ".part: was record teo.Part, is record teo.Piece",
    ),
]


def sides(schema: Schema, direction: str) -> tuple[Schema, Schema]:
    """Return writer and reader."""
    return (BASE, schema) if direction == "new reads old" else (schema, BASE)


def reads(writer: Schema, reader: Schema) -> bool:
    """Return whether fastavro reads with `reader` what it wrote with `writer`, null included."""
    for value in (VALUE, {**VALUE, "count": None, "code": None}, {**VALUE, "code": None}):
        extra = {"reason": "r", "first": 1, "counts": 1, "kind": "k"}
        part_value = {"name": "a", "kind": "k"}
        whole = {**value, **extra, "part": part_value, "parts": [part_value]}
        buffer = io.BytesIO()
        try:
            fastavro.schemaless_writer(buffer, fastavro.parse_schema(writer), whole)
        except (TypeError, ValueError):
            continue  # This schema cannot even write that value.
        buffer.seek(0)
        try:
            fastavro.schemaless_reader(
                buffer, fastavro.parse_schema(writer), fastavro.parse_schema(reader)
            )
        except fastavro.read.SchemaResolutionError:
            return False
    return True


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=COMPATIBLE)
def test_a_compatible_change_is_allowed_both_ways(change):
    schema = changed(change)
    assert breaks(BASE, schema) == []
    assert breaks(schema, BASE) == []
    assert reads(BASE, schema)
    assert reads(schema, BASE)


@pytest.mark.parametrize(
    ("change", "direction", "said"),
    [row[1:] for row in INCOMPATIBLE + SEEN_BY_RULES_ALONE],
    ids=[row[0] for row in INCOMPATIBLE + SEEN_BY_RULES_ALONE],
)
def test_an_incompatible_change_is_refused(change, direction, said):
    found = breaks(*sides(changed(change), direction))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    ("change", "direction"),
    [row[1:3] for row in INCOMPATIBLE],
    ids=[row[0] for row in INCOMPATIBLE],
)
def test_fastavro_agrees_that_it_breaks(change, direction):
    assert not reads(*sides(changed(change), direction))


def test_a_kind_of_type_without_a_rule_is_not_waved_through():
    enum = changed(
        lambda s: field(s, "count").update(
            type={"type": "enum", "name": "Colour", "symbols": ["red"]}
        )
    )
    with pytest.raises(NotImplementedError, match=r"Sample\.count: no rule for enum"):
        breaks(enum, enum)
