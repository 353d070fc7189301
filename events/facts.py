"""The facts; written by the scheduler's transactions alone.

Mirrors `schemas/events/`; the meaning and unit of each field is written there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from events.shared import (
    Artifact,
    BenchChecked,
    BenchSpec,
    Case,
    Grant,
    HealthPolicy,
    RunSpec,
    Totals,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRegistered:
    """A bench is known as described here, from now on."""

    bench: BenchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOnline:
    """A live worker serves the bench."""

    bench: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOffline:
    """No live worker serves the bench."""

    bench: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchHeld:
    """A bench was given to a holder."""

    bench: str
    fence: int
    holder_kind: str
    holder_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCleaning:
    """A bench is being cleaned up after an attempt that did not tear down."""

    bench: str
    fence: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCleaned:
    """Cleaning up is done."""

    bench: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFreed:
    """A bench has no holder any more."""

    bench: str
    fence: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchQuarantined:
    """A bench is out of placement until it is restored."""

    bench: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRestored:
    """A quarantined bench is back in placement."""

    bench: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequested:
    """An ask for benches was accepted and waits."""

    reservation_id: str
    owner: str
    selectors: tuple[str, ...]
    duration_s: float
    wait_until: datetime | None = None
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationGranted:
    """All benches of an ask were given at once."""

    reservation_id: str
    grants: tuple[Grant, ...]
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationExtended:
    """The end of a lease moved."""

    reservation_id: str
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationReleased:
    """The holder gave the benches back."""

    reservation_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationExpired:
    """The lease ran out."""

    reservation_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationCancelled:
    """The ask ended before it was granted."""

    reservation_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRevoked:
    """The lab took the benches back."""

    reservation_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSubmitted:
    """A test run was accepted and waits."""

    execution_id: str
    owner: str
    selector: str
    reservation_id: str | None = None
    priority: int
    wait_until: datetime | None = None
    retries: int
    run: RunSpec
    retries_on_failure: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionAssigned:
    """An attempt was given a bench and a worker."""

    execution_id: str
    attempt: int
    bench: str
    fence: int
    worker: str
    epoch: int
    life: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStepStarted:
    """A step of an attempt began."""

    execution_id: str
    attempt: int
    step: str
    handle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCasesRecorded:
    """Test cases of an attempt; a long list comes in several events."""

    execution_id: str
    attempt: int
    first_case: int = 0
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """An attempt ended."""

    execution_id: str
    attempt: int
    bench: str
    worker: str
    verdict: str
    code: str
    reason: str
    exit_code: int | None = None
    signal: int | None = None
    totals: Totals
    artifacts: tuple[Artifact, ...]
    is_retriable: bool
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequeued:
    """Another attempt will be made."""

    execution_id: str
    next_attempt: int
    not_before: datetime
    avoid_bench: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionCancelRequested:
    """An execution is to end early; its worker is told."""

    execution_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TeardownRequested:
    """A worker was told to tear a bench down in place of one that cannot."""

    execution_id: str
    attempt: int
    bench: str
    fence: int
    worker: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFinished:
    """An execution ended, with its one verdict."""

    execution_id: str
    verdict: str
    code: str
    reason: str
    exit_code: int | None = None
    attempts: int
    totals: Totals
    is_flaky: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRegistered:
    """A worker began a life and was accepted."""

    worker: str
    epoch: int
    adapters: tuple[str, ...]
    benches: tuple[str, ...]
    slots: int
    version: str
    life: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDrained:
    """A worker takes no new attempts."""

    worker: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """A worker ended in good order."""

    worker: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker was not heard of for its deadline, or began a new life over an old one."""

    worker: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRejected:
    """A command was refused and changed nothing."""

    command: str
    code: str
    reason: str
    subject_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSetAside:
    """An input that could not be taken went to the dead letters; the partition went on."""

    source_topic: str
    source_offset: int
    error: str
    code: str = ""
    command_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsRead:
    """Inputs were read that led to nothing, up to the one this follows from."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicySet:
    """The pool has this rule for sick benches, from now on."""

    health: HealthPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterReplayed:
    """Somebody had a dead letter put back where it came from."""

    letter_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterDiscarded:
    """Somebody settled a dead letter without replaying it."""

    letter_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRefused:
    """A life of a worker was turned away, because another one is registered and heard of."""

    worker: str
    life: str
    host: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSuspended:
    """A worker gets no attempts until it is resumed: the fault is its own."""

    worker: str
    epoch: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResumed:
    """A suspended worker gets attempts again."""

    worker: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchChecksRecorded:
    """A worker said which benches its adapters take, and which they refuse."""

    worker: str
    epoch: int
    checks: tuple[BenchChecked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped:
    """The clock that stamps inputs jumped: every deadline of the partition moved with it."""

    source: str
    by_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsBound:
    """The topics that this partition is decided with, from now on."""

    topics: Mapping[str, str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsReset:
    """Inputs were not what the journal knew: they are read from another offset on."""

    topic: str
    topic_id: str
    next_offset: int
    was_offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuarantined:
    """A record in the journal that is no fact is passed over from now on."""

    offset: int
    sha256: str
    reason: str


Event = (
    BenchRegistered
    | BenchOnline
    | BenchOffline
    | BenchHeld
    | BenchCleaning
    | BenchCleaned
    | BenchFreed
    | BenchQuarantined
    | BenchRestored
    | ReservationRequested
    | ReservationGranted
    | ReservationExtended
    | ReservationReleased
    | ReservationExpired
    | ReservationCancelled
    | ReservationRevoked
    | ExecutionSubmitted
    | ExecutionAssigned
    | AttemptStepStarted
    | AttemptCasesRecorded
    | AttemptFinished
    | ExecutionRequeued
    | ExecutionCancelRequested
    | TeardownRequested
    | ExecutionFinished
    | WorkerRegistered
    | WorkerDrained
    | WorkerGone
    | WorkerLost
    | CommandRejected
    | InputSetAside
    | InputsRead
    | HealthPolicySet
    | DeadLetterReplayed
    | DeadLetterDiscarded
    | WorkerRefused
    | WorkerSuspended
    | WorkerResumed
    | BenchChecksRecorded
    | ClockJumped
    | TopicsBound
    | InputsReset
    | RecordQuarantined
)
