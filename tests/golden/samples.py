"""Sample values of every message type, made from the dataclasses; the same ones in every run."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from events import codec, registry
from events.message import Message

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def message(name: str, *, full: bool) -> Any:
    """Return a message of type `name`: everything in it, or nothing that may be left out."""
    cls, meta = codec._class_of(name)
    body = _value(cls, name, 0, full=full)
    return body if meta is None else Message(_value(meta, "meta", 0, full=full), body)


def plain(value: Any) -> Any:
    """Return `value` as JSON has it, for people to read and for comparing."""
    if isinstance(value, Message):
        return {"meta": plain(value.meta), **plain(value.body)}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


def names() -> tuple[str, ...]:
    """Return every message type."""
    return registry.message_names()


def _value(hint: Any, name: str, at: int, *, full: bool) -> Any:
    """Return a value of type `hint` for the field `name` at place `at` of its record."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _value(inner, name, at, full=full) if full else None
    if origin is tuple:
        return tuple(_value(arguments[0], name, at + step, full=full) for step in range(2 * full))
    if origin is Mapping:
        return {
            f"{name}-{step}": _value(arguments[1], name, at + step, full=full)
            for step in range(2 * full)
        }
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        values = {
            field.name: _value(hints[field.name], field.name, at + number, full=full)
            for number, field in enumerate(fields(hint))
        }
        assert isinstance(hint, type)
        return hint(**values)
    return _scalar(hint, name, at, full=full)


def _scalar(hint: Any, name: str, at: int, *, full: bool) -> Any:
    if hint is str:
        return f"{name} {at} é→" if full else ""
    if hint is bytes:
        return bytes((0, at, 255)) if full else b""
    if hint is bool:
        return full
    if hint is int:
        return 1_000_000_007 * (at + 1) if full else -1
    if hint is float:
        return at + 0.5 if full else 0.0
    if hint is datetime:
        return START + timedelta(seconds=at) if full else datetime(1970, 1, 1, tzinfo=UTC)
    raise TypeError(f"field {name!r} has type {hint!r}: say here what its sample is")
