"""Reads YAML (and so JSON) files strictly: each error names the file and the line."""

import sys
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from cli import durations
from cli.problems import BadUsage

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 50
NODES_MAX = 100_000


class Node:
    """One YAML value, with the place it stands at."""

    def __init__(self, node: yaml.Node, file: str) -> None:
        self._node = node
        self._file = file

    def fail(self, what: str, *, next_step: str = "") -> BadUsage:
        """Return an error at this place."""
        return BadUsage(
            f"{self._file}:{self._node.start_mark.line + 1}: {what}", next_step=next_step
        )

    def mapping(
        self, *, allowed: Collection[str] | None = None, required: Collection[str] = ()
    ) -> dict[str, "Node"]:
        """Return a mapping's values by key. Raises `BadUsage` for unknown, repeated, missing."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fail(f"a mapping was expected, not {self._kind()}")
        found: dict[str, Node] = {}
        for key_node, value_node in self._node.value:
            key = Node(key_node, self._file)
            name = key.text()
            if name in found:
                raise key.fail(f"key {name!r} is there twice")
            if allowed is not None and name not in allowed:
                near = get_close_matches(name, list(allowed), n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise key.fail(
                    f"unknown key {name!r}",
                    next_step=f"{hint}known keys: {', '.join(sorted(allowed))}",
                )
            found[name] = Node(value_node, self._file)
        for name in required:
            if name not in found:
                raise self.fail(f"key {name!r} is missing")
        return found

    def items(self) -> list["Node"]:
        """Return a list's values."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail(f"a list was expected, not {self._kind()}")
        return [Node(item, self._file) for item in self._node.value]

    def text(self) -> str:
        """Return a scalar as it is written: `1.10` stays `1.10`."""
        if not isinstance(self._node, yaml.ScalarNode) or self.is_null():
            raise self.fail(f"a text was expected, not {self._kind()}")
        return str(self._node.value)

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(item.text() for item in self.items())

    def whole(self, *, least: int | None = None, most: int | None = None) -> int:
        """Return a whole number."""
        try:
            number = int(self.text())
        except ValueError as error:
            raise self.fail(f"{self.text()!r} is no whole number") from error
        if least is not None and number < least:
            raise self.fail(f"{number} is less than {least}")
        if most is not None and number > most:
            raise self.fail(f"{number} is more than {most}, the most there may be")
        return number

    def duration_s(self, name: str, *, most_s: float | None = None) -> float:
        """Return the seconds of a text like `10m`."""
        try:
            found_s = durations.parse(self.text(), name=name)
        except BadUsage as error:
            raise self.fail(error.what, next_step=error.next_step) from error
        if most_s is not None and found_s > most_s:
            text = durations.humanise(most_s)
            raise self.fail(f"{name} is {self.text()}, at most {text} is allowed")
        return found_s

    def is_null(self) -> bool:
        """Return True for `null`, `~` and nothing at all."""
        return str(self._node.tag) == "tag:yaml.org,2002:null"

    def is_list(self) -> bool:
        """Return True for a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def value(self) -> Any:
        """Return the plain value, as JSON knows it. Raises `BadUsage` for what JSON has not."""
        return self._value(self._node, depth=0, count=[0])

    def _value(self, node: yaml.Node, *, depth: int, count: list[int]) -> Any:
        count[0] += 1
        # Aliases can make a small file huge, or endless.
        if depth > DEPTH_MAX or count[0] > NODES_MAX:
            raise Node(node, self._file).fail("the value is too deep or too big")
        if isinstance(node, yaml.MappingNode):
            return {
                name: self._value(item._node, depth=depth + 1, count=count)  # noqa: SLF001
                for name, item in Node(node, self._file).mapping().items()
            }
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, depth=depth + 1, count=count) for item in node.value]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> str | int | float | bool | None:
        match str(node.tag).removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool" | "int" | "float":
                value = yaml.safe_load(node.value)
                if isinstance(value, float) and value - value != 0:
                    raise Node(node, self._file).fail(f"{node.value!r} is not in JSON")
                return value  # type: ignore[no-any-return]
            case "str" | "timestamp":
                return str(node.value)
            case tag:
                raise Node(node, self._file).fail(f"a value of type {tag} is not in JSON")

    def _kind(self) -> str:
        if self.is_null():
            return "nothing"
        match self._node:
            case yaml.MappingNode():
                return "a mapping"
            case yaml.SequenceNode():
                return "a list"
            case _:
                return f"{str(self._node.value)[:60]!r}"


def read_documents(path: str) -> Iterator[Node]:
    """Yield the documents of a file, `-` for standard input. Raises `BadUsage` with the line."""
    name = "<stdin>" if path == "-" else path
    text = _read(path, name)
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadUsage(f"{name}{line}: no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise BadUsage(f"{name}: no YAML: {error}") from error
    documents = [Node(node, name) for node in nodes if node is not None]
    found = [document for document in documents if not document.is_null()]
    if not found:
        raise BadUsage(f"{name}: there is nothing in it")
    yield from found


def _read(path: str, name: str) -> str:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadUsage(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise BadUsage(f"{name}: more than {FILE_BYTES_MAX} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadUsage(f"{name}:{line}: not UTF-8") from error
