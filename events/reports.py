"""What a worker says happened; written by workers alone.

Mirrors `schemas/reports/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass

from events.shared import Artifact, AttemptRef, BenchChecked, Case, Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """A worker began a life and offers its service."""

    adapters: tuple[str, ...]
    benches: tuple[str, ...]
    slots: int
    version: str
    after_life: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHeartbeat:
    """A worker is alive."""

    running: tuple[AttemptRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDraining:
    """A worker takes no new attempts."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped:
    """A worker ended in good order and runs nothing."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step of an attempt began."""

    execution_id: str
    attempt: int
    fence: int
    step: str
    handle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsCollected:
    """Test cases of an attempt; a long list comes in several reports."""

    execution_id: str
    attempt: int
    fence: int
    first_case: int = 0
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """An attempt ended and its bench is torn down, or its teardown failed."""

    execution_id: str
    attempt: int
    fence: int
    verdict: str
    code: str
    reason: str
    exit_code: int | None = None
    signal: int | None = None
    totals: Totals
    artifacts: tuple[Artifact, ...]
    is_retriable: bool
    teardown_error: str
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTornDown:
    """A teardown asked for as compensation is done, or failed."""

    execution_id: str
    attempt: int
    fence: int
    bench: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptUnknown:
    """A worker was told to stop an attempt that it does not run."""

    execution_id: str
    attempt: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFaulty:
    """A worker found that it cannot run attempts, whatever the bench."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecovered:
    """What kept a worker from running attempts is over."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchesChecked:
    """A worker's adapters looked at benches and changed nothing."""

    checks: tuple[BenchChecked, ...]


Report = (
    WorkerStarted
    | WorkerHeartbeat
    | WorkerDraining
    | WorkerStopped
    | StepStarted
    | ResultsCollected
    | AttemptEnded
    | BenchTornDown
    | AttemptUnknown
    | WorkerFaulty
    | WorkerRecovered
    | BenchesChecked
)
