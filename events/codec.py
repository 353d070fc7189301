"""Messages to bytes and back: Avro in the Confluent wire format (magic 0, 4-byte schema id, body).

Never guesses: bytes that name no known schema raise, and the caller sets them aside.
"""

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import fastavro

from events import commands, dlq, facts, logs, registry, reports, results, snapshots, tasks
from events.errors import Undecodable, UnknownSchema
from events.message import CommandMessage, EventMessage, Message, ReportMessage, TaskMessage
from events.shared import CommandMeta, EventMeta, ReportMeta, TaskMeta

MAGIC = 0
_PREFIX = struct.Struct(">bI")

_METAS: Mapping[str, type] = {
    "commands": CommandMeta,
    "reports": ReportMeta,
    "events": EventMeta,
    "tasks": TaskMeta,
}
_MODULES = {
    "commands": commands,
    "reports": reports,
    "events": facts,
    "tasks": tasks,
    "results": results,
    "logs": logs,
    "dlq": dlq,
    "snapshots": snapshots,
}

Build = Callable[[Any], Any]


def _identity(value: Any) -> Any:
    return value


def _converter(hint: Any, record: Callable[[Any], Build], sequence: type) -> Build:
    """Return how a value of type `hint` is converted, or `_identity` where nothing is to do."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        inner = [arg for arg in get_args(hint) if arg is not type(None)]
        convert = _converter(inner[0], record, sequence)
        if convert is _identity:
            return _identity
        return lambda value: None if value is None else convert(value)
    if origin is tuple:
        convert = _converter(get_args(hint)[0], record, sequence)
        if convert is _identity:
            return sequence
        return lambda values: sequence(map(convert, values))
    if is_dataclass(hint):
        return record(hint)
    return _identity


@cache
def _builder(cls: Any) -> Build:
    """Return a function that makes a `cls` from the dict fastavro decodes."""
    hints = get_type_hints(cls)
    special = tuple(
        (field.name, convert)
        for field in fields(cls)
        if (convert := _converter(hints[field.name], _builder, tuple)) is not _identity
    )

    def build(raw: dict[str, Any]) -> Any:
        for name, convert in special:
            raw[name] = convert(raw[name])
        return cls(**raw)

    return build


@cache
def _dumper(cls: Any) -> Build:
    """Return a function that makes the dict fastavro encodes from a `cls`."""
    hints = get_type_hints(cls)
    names = tuple(field.name for field in fields(cls))
    special = tuple(
        (name, convert)
        for name in names
        if (convert := _converter(hints[name], _dumper, list)) is not _identity
    )

    def dump(value: Any) -> dict[str, Any]:
        raw = {name: getattr(value, name) for name in names}
        for name, convert in special:
            raw[name] = convert(raw[name])
        return raw

    return dump


@cache
def _class_of(name: str) -> tuple[type, type | None]:
    family = registry.family_of(name)
    return getattr(_MODULES[family], name), _METAS.get(family)


@cache
def _encoder(cls: type) -> tuple[bytes, Any, Build]:
    version = registry.newest()[cls.__name__]
    prefix = _PREFIX.pack(MAGIC, version.schema_id)
    return prefix, fastavro.parse_schema(version.schema), _dumper(cls)


@cache
def _decoder(schema_id: int) -> tuple[Any, Any, Build, Build | None] | None:
    """Return writer schema, reader schema (None if the same), body and meta builders of an id."""
    for version in registry.published():
        if version.schema_id == schema_id:
            newest = registry.newest()[version.name]
            reader = None if newest is version else fastavro.parse_schema(newest.schema)
            cls, meta = _class_of(version.name)
            build_meta = None if meta is None else _builder(meta)
            return fastavro.parse_schema(version.schema), reader, _builder(cls), build_meta
    return None


def encode(message: Any) -> bytes:
    """Return the wire bytes of a `Message`, or of a record that carries no meta."""
    body = message.body if isinstance(message, Message) else message
    prefix, schema, dump = _encoder(body.__class__)
    raw = dump(body)
    if isinstance(message, Message):
        raw["meta"] = _dumper(message.meta.__class__)(message.meta)
    buffer = io.BytesIO()
    buffer.write(prefix)
    fastavro.schemaless_writer(buffer, schema, raw)
    return buffer.getvalue()


def decode(data: bytes | None) -> Any:
    """Return the `Message` (or the record without meta) that `data` holds.

    Raises `UnknownSchema` for an id that is not published here, `Undecodable` for anything else
    that is not a whole message.
    """
    schema_id = _schema_id(data)
    assert data is not None
    decoder = _decoder(schema_id)
    if decoder is None:
        raise UnknownSchema(f"schema id {schema_id} is not published here")
    writer, reader, build, build_meta = decoder
    buffer = io.BytesIO(data)
    buffer.seek(_PREFIX.size)
    try:
        raw: Any = fastavro.schemaless_reader(buffer, writer, reader)
    except Exception as error:
        raise Undecodable(f"schema id {schema_id}: {type(error).__name__}: {error}") from error
    if buffer.tell() != len(data):
        raise Undecodable(f"schema id {schema_id}: {len(data) - buffer.tell()} bytes left over")
    if build_meta is None:
        return build(raw)
    meta = build_meta(raw.pop("meta"))
    return Message(meta, build(raw))


def _schema_id(data: bytes | None) -> int:
    if data is None or len(data) < _PREFIX.size:
        raise Undecodable(f"a record of {0 if data is None else len(data)} bytes is no message")
    magic, schema_id = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Undecodable(f"first byte is {magic}, not {MAGIC}: not in the Confluent wire format")
    return int(schema_id)


@cache
def _names() -> Mapping[int, str]:
    return {version.schema_id: version.name for version in registry.published()}


def name_of(data: bytes | None) -> str:
    """Return the name of the type of message that `data` holds, without reading on.

    For readers of a few types of many. Raises as `decode` does for what it can see.
    """
    schema_id = _schema_id(data)
    name = _names().get(schema_id)
    if name is None:
        raise UnknownSchema(f"schema id {schema_id} is not published here")
    return name


def type_name(message: Any) -> str:
    """Return the name of a message's type, as `ce_type` headers and filters have it."""
    return type(message.body if isinstance(message, Message) else message).__name__


def _expect(data: bytes | None, meta: type, family: str) -> Any:
    message = decode(data)
    if not isinstance(message, Message) or not isinstance(message.meta, meta):
        raise Undecodable(f"a {type_name(message)} does not belong on the {family} topic")
    return message


def decode_command(data: bytes | None) -> CommandMessage:
    """Return the command `data` holds; raises `Undecodable` for anything else."""
    message: CommandMessage = _expect(data, CommandMeta, "commands")
    return message


def decode_report(data: bytes | None) -> ReportMessage:
    """Return the report `data` holds; raises `Undecodable` for anything else."""
    message: ReportMessage = _expect(data, ReportMeta, "reports")
    return message


def decode_event(data: bytes | None) -> EventMessage:
    """Return the event `data` holds; raises `Undecodable` for anything else."""
    message: EventMessage = _expect(data, EventMeta, "events")
    return message


def decode_task(data: bytes | None) -> TaskMessage:
    """Return the task `data` holds; raises `Undecodable` for anything else."""
    message: TaskMessage = _expect(data, TaskMeta, "tasks")
    return message
