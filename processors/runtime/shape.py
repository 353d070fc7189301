"""Dataclasses as plain JSON values and back, by their type hints; exact, and always in one form.

A dataclass is the list of its fields' values, a time its microseconds since 1970, a set is
sorted, and dicts keep their order. Fields that are not compared (caches) are left out.
Never guesses: a type it does not know is refused when the shape is made, not when data is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Convert = Callable[[Any], Any]
EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = timedelta(microseconds=1)
_PLAIN = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class Shape:
    """How values of one type are turned; `text` tells one shape from every other."""

    dump: Convert
    load: Convert
    text: str

    @property
    def is_plain(self) -> bool:
        """True if a value is its own JSON value."""
        return self.dump is _same


def _same(value: Any) -> Any:
    return value


@cache
def shape_of(hint: Any) -> Shape:
    """Return the shape of the type `hint`. Raises `TypeError` if it has none."""
    if hint in _PLAIN:
        return Shape(_same, _same, hint.__name__)
    if hint is datetime:
        return Shape(_micros, _time, "micros")
    if is_dataclass(hint):
        return _record(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Shape(_same, _same, f"one of {args}")
    if origin in (Union, UnionType):
        return _optional(hint, args)
    if origin in (list, tuple, set, frozenset):
        return _sequence(origin, args)
    if origin in (dict, Mapping):
        return _mapping(args)
    raise TypeError(f"{hint!r} has no JSON shape yet: give it one here")


def _micros(value: datetime) -> int:
    return (value - EPOCH) // MICROSECOND


def _time(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _record(cls: Any) -> Shape:
    hints = get_type_hints(cls)
    names = tuple(field.name for field in fields(cls) if field.compare)
    shapes = [shape_of(hints[name]) for name in names]
    special = [(at, shape) for at, shape in enumerate(shapes) if not shape.is_plain]
    getter = attrgetter(*names)

    def dump(value: Any) -> list[Any]:
        raw = list(getter(value)) if len(names) > 1 else [getter(value)]
        for at, shape in special:
            raw[at] = shape.dump(raw[at])
        return raw

    leading = fields(cls)[: len(names)]
    is_positional = all(f.compare and not f.kw_only for f in leading)

    def load(raw: list[Any]) -> Any:
        if len(raw) != len(names):
            raise ValueError(f"{cls.__name__} has {len(names)} fields, not {len(raw)}")
        values = list(raw)
        for at, shape in special:
            values[at] = shape.load(values[at])
        if is_positional:
            return cls(*values)
        return cls(**dict(zip(names, values, strict=True)))

    told = ", ".join(f"{name}: {shape.text}" for name, shape in zip(names, shapes, strict=True))
    return Shape(dump, load, f"{cls.__name__}({told})")


def _optional(hint: Any, args: tuple[Any, ...]) -> Shape:
    inner = [arg for arg in args if arg is not NoneType]
    if len(inner) != 1 or len(args) != 2:
        raise TypeError(f"{hint!r}: of unions only `X | None` has a JSON shape")
    shape = shape_of(inner[0])
    if shape.is_plain:
        return Shape(_same, _same, f"{shape.text}?")
    return Shape(
        lambda value: None if value is None else shape.dump(value),
        lambda raw: None if raw is None else shape.load(raw),
        f"{shape.text}?",
    )


def _sequence(origin: Any, args: tuple[Any, ...]) -> Shape:
    if origin is tuple and args[-1] is not Ellipsis:
        return _fixed(args)
    shape = shape_of(args[0])
    order: Convert = sorted if origin in (set, frozenset) else list
    text = f"{origin.__name__}[{shape.text}]"
    if shape.is_plain:
        return Shape(order, origin, text)
    return Shape(
        lambda values: [shape.dump(value) for value in order(values)],
        lambda raw: origin(shape.load(value) for value in raw),
        text,
    )


def _fixed(args: tuple[Any, ...]) -> Shape:
    shapes = [shape_of(arg) for arg in args]
    text = f"({', '.join(shape.text for shape in shapes)})"
    if all(shape.is_plain for shape in shapes):
        return Shape(list, tuple, text)
    return Shape(
        lambda values: [s.dump(value) for s, value in zip(shapes, values, strict=True)],
        lambda raw: tuple(s.load(value) for s, value in zip(shapes, raw, strict=True)),
        text,
    )


def _mapping(args: tuple[Any, ...]) -> Shape:
    """A dict whose keys are texts is an object, any other a list of pairs."""
    key, item = shape_of(args[0]), shape_of(args[1])
    text = f"dict[{key.text}, {item.text}]"
    if args[0] is not str:
        return Shape(
            lambda found: [[key.dump(k), item.dump(v)] for k, v in found.items()],
            lambda raw: {key.load(k): item.load(v) for k, v in raw},
            text,
        )
    if item.is_plain:
        return Shape(dict, dict, text)
    return Shape(
        lambda found: {k: item.dump(v) for k, v in found.items()},
        lambda raw: {k: item.load(v) for k, v in raw.items()},
        text,
    )
