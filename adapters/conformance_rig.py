"""What the suite of adapters plays with: a rig, its scenarios, and one test's attempts on it."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import pytest

from adapters.contract import (
    Adapter,
    Attempt,
    AttemptId,
    Bench,
    Collected,
    Exit,
    Found,
    Handle,
    Lease,
    Limits,
    Line,
)
from adapters.junit import parse_report

LIMIT_S = 30.0
LEASE_S = 60.0

Scenario = Literal[
    "passes",
    "fails",
    "talks",
    "hangs",
    "cannot_start",
    "leaves_files",
    "removes_workspace",
    "replaces_workspace",
    "leaves_deep_tree",
    "leaves_odd_names",
]
"""What a rig must be able to play:

- `passes`: exits with 0, at once
- `fails`: exits with 3, at once
- `talks`: writes to stdout `TALK_LINES` lines or more, writes nothing to stderr, exits with 0
- `hangs`: writes one line to stdout, then nothing, and does not end by itself
- `cannot_start`: names a program that does not exist
- `leaves_files`: an artifact, found by the glob `out/*.bin`, of 10 bytes; and a JUnit report, found
  by `*.xml`, with one passed and one failed case; exits with 1

and, unless tests cannot reach the files of your benches (then raise `NotImplementedError`):

- `removes_workspace`: removes the folder it works in, and exits with 0
- `replaces_workspace`: moves it away, puts a link to a folder of the machine in its place that
  holds files which `out/*.bin` and `*.xml` name, and exits with 0
- `leaves_deep_tree`: a file `leaf.bin` in `DEPTH` folders, one in the other; exits with 0
- `leaves_odd_names`: the files of `ODD_NAMES`, in `out/`; exits with 0
"""
DEPTH = 1_000
ODD_NAMES = (
    "new\nline.bin",
    "back\\slash.bin",
    " .bin",
    "-rf.bin",
    "電" * 80 + ".bin",
    "n" * 251 + ".bin",
)

TALK_LINES = 5000
_JUNIT = ("*.xml",)
_ARTIFACTS = ("out/*.bin",)
ErrorT = TypeVar("ErrorT", bound=Exception)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """An adapter under test and how to make its benches play the scenarios."""

    make: Callable[[], Adapter]
    """Make the adapter; called again, it is another life of the same worker."""
    scenario: Callable[[Scenario], tuple[Bench, tuple[str, ...]]]
    bad_config: Mapping[str, object] = field(default_factory=lambda: {"no_such_key": True})
    over_limit: tuple[Bench, tuple[str, ...], Limits] | None = None
    """A bench, a command and limits that it exceeds; None: the adapter keeps no limits."""
    is_kept: Callable[[Handle], bool] = lambda _handle: False
    """Whether anything of a handle still is; the default cannot tell, and says no."""


@dataclass(slots=True)
class Heard:
    """Lines as they came."""

    lines: list[Line] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, lines: Sequence[Line]) -> None:
        assert lines, "on_lines was called with no lines"
        self.lines.extend(lines)
        self.first.set()


class Case:
    """One test's adapter and its attempts."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.adapter = rig.make()
        self.heard = Heard()
        self._name = uuid.uuid4().hex
        """Suites that run side by side share no execution: adapters find processes by its id."""
        self._made = 0

    def attempt(
        self,
        scenario: Scenario,
        *,
        timeout_s: float = LIMIT_S,
        idle_timeout_s: float | None = None,
        artifacts: tuple[str, ...] = _ARTIFACTS,
    ) -> Attempt:
        self._made += 1
        try:
            bench, command = self.rig.scenario(scenario)
        except NotImplementedError:
            pytest.skip(f"this bench cannot play {scenario}")
        return Attempt(
            id=AttemptId(execution_id=f"exe_{self._name}_{self._made}", number=1, fence=self._made),
            bench=bench,
            command=command,
            timeout_s=timeout_s,
            idle_timeout_s=idle_timeout_s,
            junit=_JUNIT,
            artifacts=artifacts,
        )

    @contextlib.asynccontextmanager
    async def provisioned(self, attempt: Attempt) -> AsyncIterator[Handle]:
        """Provision, and tear down whatever happens."""
        try:
            yield await self.adapter.provision(attempt)
        finally:
            await self.adapter.teardown(self.adapter.handle_for(attempt.id, attempt.bench))

    async def run(self, attempt: Attempt, handle: Handle, lease: Lease | None = None) -> Exit:
        return await self.adapter.run(
            attempt, handle, on_lines=self.heard, lease=lease or lease_of_a_minute()
        )

    async def whole(self, attempt: Attempt) -> tuple[Exit, Collected]:
        async with self.provisioned(attempt) as handle:
            exit_ = await self.run(attempt, handle)
            return exit_, await self.adapter.collect(attempt, handle)

    async def through(
        self, scenario: Scenario, *, timeout_s: float = LIMIT_S, idle_timeout_s: float | None = None
    ) -> tuple[Exit, Collected]:
        return await self.whole(
            self.attempt(scenario, timeout_s=timeout_s, idle_timeout_s=idle_timeout_s)
        )


def lease_of_a_minute() -> Lease:
    """Return a lease no test of the suite outlives."""
    return Lease(until=asyncio.get_running_loop().time() + LEASE_S)


def check_files(collected: Collected) -> None:
    """Fail unless it is what `leaves_files` leaves."""
    kinds = {(found.kind, found.path) for found in collected.found}
    assert len(kinds) == len(collected.found), "a file was collected twice as the same kind"
    artifacts = [found for found in collected.found if found.kind == "artifact"]
    assert [found.size_bytes for found in artifacts if found.path.startswith("out/")] == [10]
    (report,) = [found for found in collected.found if found.kind == "junit"]
    data = content_of(report)
    assert len(data) == report.size_bytes
    cases = parse_report(data, name=report.path)
    assert (cases.count("passed"), cases.count("failed")) == (1, 1)


def content_of(found: Found) -> bytes:
    """Return the content of a file, however it was handed over."""
    if found.open is not None:
        with found.open() as file:
            return file.read()
    data = found.data if found.local_path is None else found.local_path.read_bytes()
    assert data is not None, f"{found.path} has no content"
    return data


async def raised(kind: type[ErrorT], call: Awaitable[object]) -> ErrorT:
    """Return the error of `kind` that `call` raises; fail if it raises none."""
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
