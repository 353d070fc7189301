"""Label selectors, as Kubernetes and its users write them: `k=v,k!=v,k in (a,b),k,!k`.

A value that holds other signs stands in double quotes: `site="Hall 3"`. Pure: parsing and
matching only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from events.errors import InvalidSelector

SELECTOR_CHARS_MAX = 1_000
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?"
_NAME_RE = re.compile(_NAME)
_VALUE_RE = re.compile(r"([^\W_]([\w.:/+@~%-]{0,126}[^\W_]|[\w.:/+@~%-]{0,126}\+)?)?")
_QUOTED_RE = re.compile(r'"([^"\s]([^"]{0,126}[^"\s])?)?"')
_SET_RE = re.compile(rf"({_NAME})\s+(in|notin)\s*\((.*)\)", re.DOTALL)
_PAIR_RE = re.compile(r"([^!=\s]+)\s*(!=|==|=)\s*(.*)", re.DOTALL)

Operator = Literal["in", "notin", "exists", "absent"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return True if `labels` meet the condition. `!=` and `notin` also match its absence."""
        match self.operator:
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels
            case "in":
                return labels.get(self.key) in self.values
            case "notin":
                return labels.get(self.key) not in self.values

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "absent":
                return f"!{self.key}"
            case "in" | "notin" if len(self.values) == 1:
                return f"{self.key}{'=' if self.operator == 'in' else '!='}{quoted(self.values[0])}"
            case _:
                return f"{self.key} {self.operator} ({','.join(map(quoted, self.values))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of the requirements must hold; none at all matches every bench."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return True if `labels` meet every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


@lru_cache(maxsize=4_096)
def parse(text: str) -> Selector:
    """Return the selector `text` says. Raises `InvalidSelector` that names the part in error."""
    if len(text) > SELECTOR_CHARS_MAX:
        raise InvalidSelector(f"selector has {len(text)} characters, {SELECTOR_CHARS_MAX} allowed")
    if not text.strip():
        return Selector()
    return Selector(tuple(_requirement(part.strip(), text) for part in _split(text)))


def quoted(value: str) -> str:
    """Return a label's value as a selector names it: in quotes if it has to be."""
    return value if _VALUE_RE.fullmatch(value) else f'"{value}"'


def _split(text: str) -> list[str]:
    """Split at commas that stand outside parentheses and quotes."""
    parts, depth, start = [], 0, 0
    is_quoted = False
    for index, character in enumerate(text):
        is_quoted ^= character == '"'
        if is_quoted:
            continue
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _requirement(part: str, text: str) -> Requirement:
    if in_set := _SET_RE.fullmatch(part):
        values = tuple(_value(value.strip(), text) for value in _split(in_set[4]))
        return Requirement(in_set[1], "in" if in_set[3] == "in" else "notin", values)
    if pair := _PAIR_RE.fullmatch(part):
        key = _name(pair[1], text)
        return Requirement(
            key, "notin" if pair[2] == "!=" else "in", (_value(pair[3].strip(), text),)
        )
    if part.startswith("!"):
        return Requirement(_name(part[1:].strip(), text), "absent")
    return Requirement(_name(part, text), "exists")


def _name(name: str, text: str) -> str:
    if not _NAME_RE.fullmatch(name):
        raise InvalidSelector(
            f"selector {text!r}: {name!r} is no label name",
            next_step="write k=v, k!=v, k in (a,b), k notin (a,b), k or !k, joined by commas",
        )
    return name


def _value(value: str, text: str) -> str:
    if _VALUE_RE.fullmatch(value):
        return value
    in_quotes = _QUOTED_RE.fullmatch(value)
    if in_quotes is None or not value.isprintable():
        raise InvalidSelector(
            f"selector {text!r}: {value!r} is no label value",
            next_step="use letters, digits, '.', '_', '-', ':', '/', '+', '@', '~' and '%', at "
            'most 128 characters; put any other in quotes, as in site="Hall 3"',
        )
    return in_quotes[1] or ""
