"""What users ask; written by the API alone.

Mirrors `schemas/commands/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass

from events.shared import BenchSpec, HealthPolicy, RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyBenches:
    """Register benches, or change the ones of the same name."""

    benches: tuple[BenchSpec, ...]
    health: HealthPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineBench:
    """Take a bench out of placement until it is restored."""

    bench: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreBench:
    """Give a quarantined bench back to placement."""

    bench: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReservation:
    """Ask for benches to hold for a time."""

    reservation_id: str
    selectors: tuple[str, ...]
    duration_s: float
    wait_timeout_s: float | None = None
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendReservation:
    """Move the end of a lease."""

    reservation_id: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservation:
    """Give benches back, or take back an ask that waits."""

    reservation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitExecution:
    """Ask for a test run."""

    execution_id: str
    selector: str
    reservation_id: str | None = None
    priority: int
    wait_timeout_s: float | None = None
    retries: int
    run: RunSpec
    retries_on_failure: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelExecution:
    """End an execution early."""

    execution_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWorker:
    """Have a worker take no new attempts, and leave when it runs none."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeWorker:
    """Let a suspended worker take attempts again."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDeadLetter:
    """Put a dead letter back where it came from."""

    letter_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardDeadLetter:
    """Settle a dead letter without replaying it."""

    letter_id: str
    reason: str


Command = (
    ApplyBenches
    | QuarantineBench
    | RestoreBench
    | RequestReservation
    | ExtendReservation
    | ReleaseReservation
    | SubmitExecution
    | CancelExecution
    | DrainWorker
    | ResumeWorker
    | ReplayDeadLetter
    | DiscardDeadLetter
)
