"""The parts that messages of several families are made of.

Mirrors `schemas/shared/`; the meaning and unit of each field is written there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """Limits of one step of an attempt on a bench."""

    step: str
    timeout_s: float | None = None
    retries: int
    backoff_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When a bench of a pool counts as sick."""

    errors_max: int
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSpec:
    """What a bench is: its name in the pool, its labels, and the adapter that drives it."""

    name: str
    labels: Mapping[str, str]
    adapter: str
    config: str
    steps: tuple[StepPolicy, ...] = ()


VERDICTS_BY = ("both", "exit-code", "report")
"""What may decide when exit code and report of a run do not agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What is run on the bench, and its limits."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    timeout_s: float
    idle_timeout_s: float | None = None
    junit: tuple[str, ...]
    artifacts: tuple[str, ...]
    memory_max_bytes: int | None = None
    processes_max: int | None = None
    disk_max_bytes: int | None = None
    verdict_by: str = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A bench given to a holder."""

    bench: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How many test cases ended how."""

    passed: int
    failed: int
    errors: int
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case of a result."""

    suite: str
    classname: str
    name: str
    status: str
    duration_s: float
    message: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file kept from an attempt, already stored when it is named here."""

    path: str
    kind: str
    size_bytes: int
    sha256: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRef:
    """Names one attempt."""

    execution_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCheck:
    """A bench that a worker is to look at, before anything runs there."""

    bench: BenchSpec
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchChecked:
    """What a worker's adapter says of a bench."""

    bench: str
    version: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMeta:
    """Who asked, when, and in which trace."""

    command_id: str
    pool: str
    actor: str
    roles: tuple[str, ...]
    issued_at: datetime
    correlation_id: str
    traceparent: str
    request_hash: str
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMeta:
    """Which worker says so, and which life of it."""

    report_id: str
    pool: str
    worker: str
    epoch: int
    sent_at: datetime
    correlation_id: str
    traceparent: str
    life: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMeta:
    """Where a fact stands in the journal, and what it follows from."""

    event_id: str
    pool: str
    seq: int
    index: int
    count: int
    occurred_at: datetime
    actor: str
    causation_id: str
    correlation_id: str
    traceparent: str
    input_topic: str
    input_offset: int
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMeta:
    """For which life of which worker a task is."""

    task_id: str
    pool: str
    worker: str
    epoch: int
    issued_at: datetime
    causation_id: str
    correlation_id: str
    traceparent: str
    life: str = ""
