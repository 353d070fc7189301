"""What a worker asks of a driver of benches; it never says how, and knows nothing of the log.

An adapter takes ONE attempt through its steps, in this order, always from one worker process:

    handle = adapter.handle_for(attempt.id, attempt.bench)       known before anything exists
    await adapter.provision(attempt)                             makes what the handle names
    exit_ = await adapter.run(attempt, handle, on_lines=…, lease=…)
    collected = await adapter.collect(attempt, handle)           also after a timeout or a cancel
    await adapter.teardown(handle)                               always, also when provision failed

`teardown` may be called again, at any time, by any worker that has the adapter, with nothing but
the handle: that is how the system compensates for a worker that died. All durations are seconds,
all instants are seconds on the clock of the running loop (`loop.time()`, monotonic).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, NewType, Protocol

Handle = NewType("Handle", str)
"""Names what an attempt holds: the text of a JSON object, at most `HANDLE_CHARS_MAX` long.

It goes through the log, so it holds no secret, and an adapter checks it before it acts on it.
"""

HANDLE_CHARS_MAX = 4096
GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptId:
    """Names one attempt under one grant of its bench. Known wherever a teardown is asked for."""

    execution_id: str
    number: int
    """From 1."""
    fence: int
    """Rises with each grant of the bench: hardware that can check it refuses a lower one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The bench an adapter drives. `config` is a JSON object that only the adapter understands."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a test may use at most, all its processes together; None: no limit is asked for."""

    memory_max_bytes: int | None = None
    """Memory that is the test's own; what it shares with others counts in parts."""
    processes_max: int | None = None
    """Processes and threads."""
    disk_max_bytes: int | None = None
    """What lies in its workspace."""

    def within(self, other: "Limits") -> "Limits":
        """Return, of each limit, the smaller one."""
        return Limits(
            memory_max_bytes=_smaller(self.memory_max_bytes, other.memory_max_bytes),
            processes_max=_smaller(self.processes_max, other.processes_max),
            disk_max_bytes=_smaller(self.disk_max_bytes, other.disk_max_bytes),
        )


NO_LIMITS = Limits()


def _smaller(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given) if given else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a worker lets its benches reach of its own machine. A bench's config can ask for less.

    Whoever may apply benches is not thereby let at the worker's files and secrets.
    """

    env: tuple[str, ...] = ()
    """Names, or patterns of names, of the worker's variables that a test may be given."""
    folders: tuple[Path, ...] = ()
    """Folders with all below them that a bench may name."""
    secret_folders: tuple[Path, ...] = ()
    """Folders of the product's own: no bench may name them, one below or one above them."""


NO_ALLOWANCE = Allowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a test on one bench."""

    id: AttemptId
    bench: Bench
    command: tuple[str, ...]
    """Program and arguments, never empty; not a shell line."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the test finds in its environment beside the adapter's own base, `TEO_*` included.

    The adapter adds only what it alone knows: `TEO_ARTIFACTS_DIR`.
    """
    timeout_s: float
    """Limit of the run step."""
    idle_timeout_s: float | None = None
    """Limit of silence on both streams during the run step; None: no limit.

    Time in which the adapter waits for `on_lines` is not silence.
    """
    grace_s: float = GRACE_S
    """How long a test that is stopped may clean up between SIGTERM and SIGKILL."""
    junit: tuple[str, ...] = ()
    """Globs of JUnit XML reports, relative to the workspace (syntax: `adapters.grammar`)."""
    artifacts: tuple[str, ...] = ()
    """Globs of artifacts to keep beside what the test puts in `TEO_ARTIFACTS_DIR`."""
    limits: Limits = NO_LIMITS
    """What the one who asked for the run lets it use; the bench may have lower limits.

    An adapter that cannot keep a limit says so in its documentation.
    """


Stream = Literal["stdout", "stderr"]


class Line(NamedTuple):
    """One line the test wrote, without its line end. The worker numbers it."""

    stream: Stream
    text: str
    goes_on: bool = False
    """True for a piece of a line that is too long: the next one of its stream is the rest of it."""


OnLines = Callable[[Sequence[Line]], Awaitable[None]]
"""Takes lines in the order they were read. While it waits, the adapter reads no further.

What it raises ends the test and comes out of `run` as it is.
"""

Ended = Literal["exited", "timeout", "idle_timeout", "lease_expired", "limit_exceeded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How the test's main process ended. Nothing of the test is alive when it is returned."""

    ended: Ended
    """`exited`: by itself; else the limit for which the adapter stopped it."""
    code: int | None = None
    """Exit code; None: ended by a signal, or not known."""
    signal: int | None = None
    """Number of the signal that ended it; None: none."""
    detail: str = ""
    """For `limit_exceeded`: which limit, how much is allowed and what was measured."""


FoundKind = Literal["artifact", "junit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file to keep: on this machine until teardown, or in memory. One of the last three is set.

    What was checked is what must be read: a test may change its files until the bench is torn
    down. So an adapter whose tests can reach the files gives `open`, not a path.
    """

    kind: FoundKind
    path: str
    """Name to keep it under: POSIX, relative to the workspace. One path may be of both kinds."""
    size_bytes: int
    local_path: Path | None = None
    """A regular file on this machine that no test can reach."""
    open: Callable[[], BinaryIO] | None = None
    """Opens the file that was found, which has a descriptor.

    Raises `OSError` if it is not there as that file any more.
    """
    data: bytes | None = None
    """The content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A file or glob that was not collected, and why; the rest was."""

    path: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What an attempt left, ordered by path."""

    found: tuple[Found, ...] = ()
    refused: tuple[Refused, ...] = ()
    has_all_reports: bool = True
    """False if a file that is a report by its name is among `refused`, or was not come to: then
    nobody knows that all passed."""


class Lease:
    """Until when a run may go on without word from the log; the worker renews, the run watches.

    The worker counts from when it SENT its last acknowledged heartbeat, so a stopped worker that
    wakes up and renews with an old instant renews nothing.
    """

    __slots__ = ("_until", "_watchers")

    def __init__(self, *, until: float) -> None:
        self._until = until
        self._watchers: list[Callable[[float], None]] = []

    @property
    def until(self) -> float:
        """The instant at which nothing of the test may be alive any more."""
        return self._until

    def renew(self, until: float) -> None:
        """Move the end to `until`; an earlier one is ignored. Never blocks, never raises."""
        if until <= self._until:
            return
        self._until = until
        for watcher in tuple(self._watchers):
            watcher(until)

    def watch(self, watcher: Callable[[float], None]) -> Callable[[], None]:
        """Call `watcher` at each renewal until the function returned here is called."""
        self._watchers.append(watcher)

        def unwatch() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return unwatch

    async def expired(self) -> None:
        """Return once the lease has run out."""
        loop = asyncio.get_running_loop()
        while (left_s := self._until - loop.time()) > 0:  # noqa: ASYNC110 - it moves on renewal.
            await asyncio.sleep(left_s)


Fault = Literal["asker", "test", "bench", "worker", "store", "network"]
"""Whose fault an error is: who asked for the run, the test, the bench, the worker (its machine or
its process), the store of artifacts, the network between them."""


class AdapterError(Exception):
    """Raised when a step cannot be done; it says whose fault that is.

    `code` is a stable word; `retriable` is true if another try, perhaps on another bench, may not
    meet it again. Only a `fault` of the bench counts against the bench, and only faults of the lab
    (bench, worker, store, network) are tried again or leave a dead letter. Anything else that
    leaves an adapter is a bug of the adapter: the worker treats it as
    `AdapterError(code="adapter_bug", retriable=True)`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "adapter_error",
        retriable: bool = True,
        fault: Fault = "bench",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.fault: Fault = fault
        self.retriable = retriable


class InvalidConfig(AdapterError):
    """Raised when the `config` of a bench is not what its adapter understands."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="invalid_config", retriable=False)


class InvalidHandle(AdapterError):
    """Raised when a handle is not one that this adapter made."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="invalid_handle", retriable=False)


class CannotStart(Exception):
    """Raised by `run` when the command cannot be started: not found, not executable.

    The test's fault, not the lab's: the attempt has failed and is not tried again.
    """

    code = "cannot_start"
    retriable = False


class Adapter(Protocol):
    """Drives benches of one kind. One object serves many attempts at the same time.

    It is made with one argument, `state_dir`: a folder of its own on the worker's machine that
    outlives the worker and belongs to one worker id alone. Cancelling any method cleans up what
    the call itself started, and re-raises. An adapter whose config can name files or variables of
    the worker's machine has one method more, `allow(allowed: Allowed) -> None`, called once before
    all others: it refuses what is not allowed with `InvalidConfig`.
    """

    async def check(self, bench: Bench) -> None:
        """Return if `bench` can be used; changes nothing. Raises `AdapterError` with the reason."""
        ...

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        """Return the handle of an attempt, before or after it exists. Pure and quick.

        The worker reports it before it provisions, so that a provision that crashed half-way can
        be torn down. Raises `InvalidConfig`.
        """
        ...

    async def provision(self, attempt: Attempt) -> Handle:
        """Make ready what the test needs; return `handle_for(attempt.id, attempt.bench)`.

        Raises `AdapterError`; what it had made until then goes with `teardown`.
        """
        ...

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        """Run the command to its end and hand its output to `on_lines` while it comes.

        The adapter keeps the attempt's limits by itself. When `run` returns or raises, by whatever
        way, nothing of the test is alive. By `lease.until` that is so even if this process is
        dead, stopped or cut off: something that does not depend on it sees to that. Cancelling it
        stops the test (SIGTERM, `grace_s`, SIGKILL), hands over the last lines, and re-raises.
        Raises `CannotStart` or `AdapterError`.
        """
        ...

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        """Find what the test left. The files stay until teardown. Raises `AdapterError`.

        Whatever a test did to its own files, also that it removed them all, is no error: what is
        not there is not found, what may not be collected is `Refused` by name.
        """
        ...

    async def teardown(self, handle: Handle) -> None:
        """End and remove all that `handle` names; also what another life of a worker left.

        Idempotent: what is not there any more is torn down. Raises `InvalidHandle`, or
        `AdapterError` if something may still be there: then the bench is not safe to give away.
        """
        ...

    async def leftovers(self) -> Sequence[Handle]:
        """Return handles of what earlier lives of this worker left on this machine.

        Asked once, at the worker's start and before its first attempt; it tears them all down.
        """
        ...
