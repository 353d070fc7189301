"""What `teo run` asks for, from flags and from a file; flags win. Never sends anything."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from adapters.grammar import (
    Wrong,
    wrong_command,
    wrong_globs,
    wrong_name,
    wrong_variables,
)
from adapters.sizes import size_text
from cli import arguments
from cli.client import Json
from cli.documents import Node, read_documents
from cli.durations import humanise
from cli.problems import BadUsage
from events.limits import (
    LIMIT_BYTES_MAX,
    LIMIT_BYTES_MIN,
    LIMIT_PROCESSES_MAX,
    PRIORITY_MAX,
    RETRIES_MAX,
    TIMEOUT_S_MAX,
    WAIT_S_MAX,
)

T = TypeVar("T")
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

    def check(self) -> None:
        """Raise `BadUsage` for what the server would refuse, before anything is sent."""
        if self.pool is not None:
            arguments.checked_pool(self.pool)
        arguments.refuse(wrong_command(self.command))
        arguments.refuse(wrong_variables(self.env), name="--env")
        arguments.refuse(wrong_globs(self.junit), name="--junit")
        arguments.refuse(wrong_globs(self.artifacts), name="--artifact")
        for name, value, least, most in (
            ("--retries", self.retries, 0, RETRIES_MAX),
            ("--retries-on-failure", self.retries_on_failure, 0, RETRIES_MAX),
            ("--priority", self.priority, -PRIORITY_MAX, PRIORITY_MAX),
            ("--memory-max", self.memory_max_bytes, LIMIT_BYTES_MIN, LIMIT_BYTES_MAX),
            ("--processes-max", self.processes_max, 1, LIMIT_PROCESSES_MAX),
            ("--disk-max", self.disk_max_bytes, LIMIT_BYTES_MIN, LIMIT_BYTES_MAX),
        ):
            if value is not None and not least <= value <= most:
                text = size_text if most == LIMIT_BYTES_MAX else str
                raise BadUsage(
                    f"{name} {text(value)}", next_step=f"it is from {text(least)} to {text(most)}"
                )
        for name, seconds, most_s in (
            ("--timeout", self.timeout_s, TIMEOUT_S_MAX),
            ("--idle-timeout", self.idle_timeout_s, TIMEOUT_S_MAX),
            ("--wait-timeout", self.wait_timeout_s, WAIT_S_MAX),
        ):
            if seconds is not None and seconds > most_s:
                raise BadUsage(
                    f"{name} {humanise(seconds)} is too long",
                    next_step=f"give at most {humanise(most_s)}",
                )

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
            given[name] = _taken(nodes[name], _one_or_more(nodes[name]), wrong_globs)
    readers = {"selector": _selector, "command": _command, "verdict": _verdict_by, "env": _env}
    for name, read in readers.items():
        if name in nodes:
            given["verdict_by" if name == "verdict" else name] = read(nodes[name])
    if "pool" in nodes:
        _taken(nodes["pool"], given["pool"], lambda text: wrong_name(text, "pool"))
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
    _taken(node, env, wrong_variables)
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


def _taken(node: Node, asked: T, check: Callable[[T], Wrong | None]) -> T:
    """Return `asked`. Raises `BadUsage` at its place in the file if the grammar refuses it."""
    if (wrong := check(asked)) is not None:
        raise node.fail(wrong.what, next_step=wrong.next_step)
    return asked


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
        return _taken(node, node.texts(), wrong_command)
    try:
        return _taken(node, tuple(shlex.split(node.text())), wrong_command)
    except ValueError as error:
        raise node.fail(f"command: {error}", next_step="write it as a list of words") from error


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
