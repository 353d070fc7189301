"""What `teo run` asks for, from flags and from a file; flags win. Never sends anything."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cli import arguments
from cli.client import Json
from cli.documents import Node, read_documents
from cli.problems import BadUsage

_KEYS = frozenset(
    (
        *("pool", "selector", "reservation", "command", "env", "priority"),
        *("retries", "retries_on_failure"),
        *("timeout", "idle_timeout", "wait_timeout", "junit", "artifacts", "verdict"),
        *("memory_max", "processes_max", "disk_max"),
    )
)
_WHOLE = {"retries": 0, "retries_on_failure": 0, "priority": None, "processes_max": 1}
_SIZES = ("memory_max", "disk_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """An execution to ask for; what is None or empty is left to the server."""

    command: tuple[str, ...] = ()
    selector: str = ""
    pool: str | None = None
    reservation: str | None = None
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    wait_timeout_s: float | None = None
    retries: int | None = None
    retries_on_failure: int | None = None
    priority: int | None = None
    junit: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    verdict_by: str | None = None
    memory_max_bytes: int | None = None
    processes_max: int | None = None
    disk_max_bytes: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def over(self, **given: Any) -> "RunSpec":
        """Return this spec with what was given in its place; variables are added to."""
        if "env" in given:
            given["env"] = {**self.env, **given["env"]}
        known = {item.name for item in fields(self)}
        chosen = {
            name: value
            for name, value in given.items()
            if name in known and value not in (None, "", (), {})
        }
        return replace(self, **chosen)

    def body(self) -> Json:
        """Return the body of POST /v1/executions."""
        run = _given(
            command=list(self.command),
            env=dict(self.env),
            timeout_s=self.timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            junit=list(self.junit),
            artifacts=list(self.artifacts),
            verdict_by=self.verdict_by,
            memory_max_bytes=self.memory_max_bytes,
            processes_max=self.processes_max,
            disk_max_bytes=self.disk_max_bytes,
        )
        return _given(
            pool=self.pool,
            selector=self.selector,
            reservation_id=self.reservation,
            priority=self.priority,
            wait_timeout_s=self.wait_timeout_s,
            retries=self.retries,
            retries_on_failure=self.retries_on_failure,
            run=run,
        )


def read_spec(path: str) -> RunSpec:
    """Return the one spec of a file. Raises `BadUsage` with the file and line."""
    documents = list(read_documents(path))
    if len(documents) > 1:
        raise documents[1].fail("a run is one document", next_step="split the file")
    keys = documents[0].mapping(allowed=_KEYS)
    nodes = {name: node for name, node in keys.items() if not node.is_null()}
    given: dict[str, Any] = {
        name: nodes[name].text() for name in ("pool", "reservation") if name in nodes
    }
    for name in ("timeout", "idle_timeout", "wait_timeout"):
        if name in nodes:
            given[f"{name}_s"] = nodes[name].duration_s(name)
    given |= _numbers(nodes)
    for name in ("junit", "artifacts"):
        if name in nodes:
            given[name] = _globs(nodes[name], name=name)
    readers = {"selector": _selector, "command": _command, "verdict": _verdict_by}
    for name, read in readers.items():
        if name in nodes:
            given["verdict_by" if name == "verdict" else name] = read(nodes[name])
    if "env" in nodes:
        given["env"] = _env(nodes["env"])
    return RunSpec().over(**given)


def _numbers(nodes: Mapping[str, Node]) -> dict[str, int]:
    given = {}
    for name, least in _WHOLE.items():
        if name in nodes:
            given[name] = nodes[name].whole(least=least)
    for name in _SIZES:
        if name in nodes:
            given[f"{name}_bytes"] = _size(nodes[name], name=name)
    return given


def _env(node: Node) -> dict[str, str]:
    env = {key: value.text() for key, value in node.mapping().items()}
    try:
        arguments.refuse_secrets(env, name="env")
    except BadUsage as error:
        raise node.fail(error.what, next_step=error.next_step) from error
    return env


def _size(node: Node, *, name: str) -> int:
    try:
        return arguments.size(node.text(), name=name)
    except BadUsage as error:
        raise node.fail(error.what, next_step=error.next_step) from error


def _selector(node: Node) -> str:
    try:
        return arguments.selector(list(_one_or_more(node)), name="selector")
    except BadUsage as error:
        raise node.fail(error.what, next_step=error.next_step) from error


def _globs(node: Node, *, name: str) -> tuple[str, ...]:
    try:
        return tuple(arguments.globs(list(_one_or_more(node)), name=name))
    except BadUsage as error:
        raise node.fail(error.what, next_step=error.next_step) from error


def _verdict_by(node: Node) -> str:
    try:
        return arguments.verdict_by(node.text(), name="verdict")
    except BadUsage as error:
        raise node.fail(error.what, next_step=error.next_step) from error


def _one_or_more(node: Node) -> tuple[str, ...]:
    return node.texts() if node.is_list() else (node.text(),)


def _command(node: Node) -> tuple[str, ...]:
    """Return the words of a command: a list as it is, a text split as a shell would, unexpanded."""
    if node.is_list():
        return node.texts()
    try:
        return tuple(shlex.split(node.text()))
    except ValueError as error:
        raise node.fail(f"command: {error}", next_step="write it as a list of words") from error


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
