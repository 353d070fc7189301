"""The rows of the read models, and the words of asking for them. Data only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from events.selector import Selector
from events.shared import Grant, HealthPolicy, Totals

RowT = TypeVar("RowT", covariant=True)
EVERY_BENCH = Selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRow:
    """The outcome of a command. `position` is that of the last event it led to."""

    id: str
    status: str
    type: str
    subject_id: str
    code: str
    reason: str
    at: datetime
    request_hash: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """A pool and its counts. `health` is None: it was given no rule for sick benches."""

    pool: str
    benches_by_state: Mapping[str, int]
    reservations_queued: int
    executions_queued: int
    executions_active: int
    workers: int
    health: HealthPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """A bench. `config` is a JSON object, `steps` a list of step policies; both as text.

    `quarantined_by` says who took it out of placement, None: nobody.
    """

    pool: str
    name: str
    labels: Mapping[str, str]
    adapter: str
    config: str
    steps: str
    state: str
    fence: int
    holder_kind: str | None
    holder_id: str | None
    reason: str
    since: datetime
    quarantined_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLife:
    """A process that asked to be a worker whose id another one has."""

    host: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker in a pool."""

    worker: str
    pool: str
    epoch: int
    state: str
    adapters: tuple[str, ...]
    benches: tuple[str, ...]
    slots: int
    slots_used: int
    version: str
    since: datetime
    reason: str
    life: str
    host: str
    refused: RefusedLife | None
    """The last one that was turned away while this life is registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRow:
    """A reservation and its life."""

    id: str
    pool: str
    status: str
    owner: str
    selectors: tuple[str, ...]
    priority: int
    duration_s: float
    benches: tuple[Grant, ...]
    requested_at: datetime
    granted_at: datetime | None
    lease_until: datetime | None
    wait_until: datetime | None
    ended_at: datetime | None
    code: str
    reason: str
    queue_position: int | None
    stuck: str = ""
    """Why no bench there is now can serve it while it waits; empty: one can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One try of an execution."""

    number: int
    bench: str
    worker: str
    fence: int
    status: str
    step: str
    verdict: str | None
    code: str
    reason: str
    exit_code: int | None
    signal: int | None
    started_at: datetime
    finished_at: datetime | None
    totals: Totals
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRow:
    """An execution with its attempts."""

    id: str
    pool: str
    status: str
    verdict: str | None
    code: str
    reason: str
    owner: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    bench: str | None
    reservation_id: str | None
    selector: str
    priority: int
    retries: int
    retries_on_failure: int
    verdict_by: str
    is_flaky: bool
    exit_code: int | None
    command: tuple[str, ...]
    totals: Totals
    queue_position: int | None
    attempts: tuple[AttemptRow, ...]
    correlation_id: str
    traceparent: str
    stuck: str = ""
    """Why no bench there is now can serve it while it waits; empty: one can."""
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRow:
    """The cases of one suite of an attempt, counted."""

    name: str
    first: int
    """Number of its first case."""
    tests: int
    failed: int
    errors: int
    skipped: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """A test case of an attempt."""

    attempt: int
    suite: str
    classname: str
    name: str
    status: str
    duration_s: float
    message: str
    details: str
    is_flaky: bool
    """True if it failed in one attempt of the execution and passed in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """A file kept of an attempt."""

    attempt: int
    path: str
    kind: str
    size_bytes: int
    sha256: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledRow:
    """How a dead letter was settled: replayed or discarded, and by whom."""

    letter_id: str
    status: str
    actor: str
    at: datetime
    reason: str
    replays: int
    """How often it was put back, in all."""


class InvalidCursor(ValueError):
    """Raised when a cursor was not made by this read model for this kind of list."""


@dataclass(frozen=True, slots=True)
class Page(Generic[RowT]):
    """A part of a list, and where it goes on (None: nowhere)."""

    items: Sequence[RowT]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFilter:
    """Which benches; None or empty: any."""

    pool: str | None = None
    states: tuple[str, ...] = ()
    selector: Selector = EVERY_BENCH


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFilter:
    """Which workers; None or empty: any."""

    pool: str | None = None
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """Which reservations; None or empty: any."""

    pool: str | None = None
    statuses: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions; None or empty: any."""

    pool: str | None = None
    statuses: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the projection stands. `behind` counts offsets of the journal not read yet."""

    is_live: bool
    behind: int
    detail: str = ""
