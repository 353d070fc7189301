"""Avro's rules of schema resolution: can a reader's schema read what a writer's schema wrote?

The part of the specification that `schemas/` uses; a type outside it is refused, never guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PROMOTIONS = {
    "int": {"int", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "double": {"double"},
    "string": {"string", "bytes"},
    "bytes": {"bytes", "string"},
    "boolean": {"boolean"},
    "null": {"null"},
}
Schema = Any
Known = dict[str, Schema]


def breaks(writer: Schema, reader: Schema) -> list[str]:
    """Return why `reader` cannot read what `writer` wrote; empty: it can."""
    return list(_Pair(_definitions(writer), _definitions(reader)).breaks(writer, reader, ""))


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two schemas being compared: the records that each defines, by full name."""

    written: Known
    known: Known

    def breaks(self, writer: Schema, reader: Schema, at: str) -> Iterator[str]:
        writer, reader = _resolve(writer, self.written), _resolve(reader, self.known)
        at = at or _name(writer)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.breaks(branch, reader, at)
            return
        if isinstance(reader, list):
            if all(any(self.breaks(writer, branch, at)) for branch in reader):
                yield f"{at}: no branch of the reader's union takes {_shown(writer)}"
            return
        kind = _kind(writer)
        if kind in PROMOTIONS:
            if _kind(reader) not in PROMOTIONS[kind] or _logical(writer) != _logical(reader):
                yield f"{at}: was {_shown(writer)}, is {_shown(reader)}"
        elif kind != _kind(reader):
            yield f"{at}: was {kind}, is {_kind(reader)}"
        elif kind == "array":
            yield from self.breaks(writer["items"], reader["items"], f"{at}[]")
        elif kind == "map":
            yield from self.breaks(writer["values"], reader["values"], f"{at}{{}}")
        elif kind == "record":
            yield from self._record_breaks(writer, reader, at)
        else:
            raise NotImplementedError(f"{at}: no rule for {kind}: say here what breaks it")

    def _record_breaks(self, writer: Schema, reader: Schema, at: str) -> Iterator[str]:
        if _name(writer) != _name(reader):
            yield f"{at}: was record {_name(writer)}, is record {_name(reader)}"
            return
        there = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            place = f"{at}.{field['name']}"
            if field["name"] in there:
                yield from self.breaks(there[field["name"]]["type"], field["type"], place)
            elif "default" not in field:
                yield f"{place}: only one side has it, and it has no default"


def _resolve(schema: Schema, known: Known) -> Schema:
    """Return the definition behind a name; anything else as it is."""
    return known[schema] if isinstance(schema, str) and schema not in PROMOTIONS else schema


def _definitions(schema: Schema) -> Known:
    """Return every record that is defined somewhere in `schema`, by its full name."""
    found: Known = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= _definitions(branch)
    elif isinstance(schema, dict):
        if "fields" in schema:
            found[_name(schema)] = schema
        for field in schema.get("fields", ()):
            found |= _definitions(field["type"])
        for key in ("items", "values"):
            found |= _definitions(schema.get(key))
    return found


def _kind(schema: Schema) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _logical(schema: Schema) -> str | None:
    return schema.get("logicalType") if isinstance(schema, dict) else None


def _shown(schema: Schema) -> str:
    logical = _logical(schema)
    return f"{_kind(schema)} ({logical})" if logical else _kind(schema)


def _name(schema: Schema) -> str:
    if not isinstance(schema, dict) or "name" not in schema:
        return ""
    namespace = schema.get("namespace")
    return f"{namespace}.{schema['name']}" if namespace else str(schema["name"])
