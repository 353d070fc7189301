"""What the worker asks of an adapter: the one file here that knows an adapter's shape.

Structural on purpose: an adapter knows nothing of this project, so it satisfies these protocols
without importing them. Never calls anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OnLine = Callable[[str, bool], None]
"""Takes one line of output without its end, and whether it came from stderr. Never blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """The attempt an adapter serves."""

    execution_id: str
    attempt: int
    fence: int
    bench: str
    labels: Mapping[str, str]
    config: str
    """Configuration of the bench, a JSON object as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run. The worker keeps the time; `lease_s` is what the guardian starts with."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    lease_s: float


class Provisioned(Protocol):
    """What a provisioned bench says of itself."""

    @property
    def artifacts_dir(self) -> str:
        """Where the test may leave artifacts, as the test sees it."""
        ...


class Exit(Protocol):
    """How the command ended: an exit code or a signal."""

    @property
    def exit_code(self) -> int | None: ...

    @property
    def signal(self) -> int | None: ...


class CollectedFile(Protocol):
    """A file brought from the bench, readable here until teardown."""

    @property
    def path(self) -> str:
        """Relative to the workspace, POSIX."""
        ...

    @property
    def kind(self) -> str:
        """`junit` or `artifact`."""
        ...

    @property
    def source(self) -> Path: ...


class Adapter(Protocol):
    """Drives benches of one kind. Every call but `run` has a limit and may be cancelled."""

    def handle_for(self, spec: AttemptSpec) -> str:
        """Return what teardown will need, a JSON object as text, before anything is provisioned.

        Any worker with this adapter can tear down by it, in any later life.
        """
        ...

    async def provision(self, spec: AttemptSpec, handle: str) -> Provisioned:
        """Make the bench ready for one attempt."""
        ...

    async def run(self, handle: str, request: RunRequest, on_line: OnLine) -> Exit:
        """Run the command to its end. Cancelled: ends the command, then re-raises."""
        ...

    async def cancel(self, handle: str) -> None:
        """End the command of `handle` with all it started, at once. Idempotent."""
        ...

    async def collect(
        self, handle: str, *, junit: Sequence[str], artifacts: Sequence[str]
    ) -> Sequence[CollectedFile]:
        """Return the files that match, none from outside the workspace."""
        ...

    async def teardown(self, handle: str) -> None:
        """Leave the bench clean, ending whatever runs. Idempotent; works from the handle alone."""
        ...

    def renew(self, handle: str, lease_s: float) -> None:
        """Let the guardian of `handle` wait `lease_s` from now before it ends the command."""
        ...


def is_cannot_start(error: Exception) -> bool:
    """Return True if `error` says that the command itself cannot be started."""
    return getattr(error, "code", "") == "cannot_start"


def is_retriable(error: Exception) -> bool:
    """Return True unless the adapter says that another try would meet the same."""
    for name in ("is_retriable", "retriable"):
        said = getattr(error, name, None)
        if isinstance(said, bool):
            return said
    return True
