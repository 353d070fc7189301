"""What a worker is told to do; written by the scheduler's transactions alone.

Mirrors `schemas/tasks/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass

from events.shared import BenchCheck, BenchSpec, RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAttempt:
    """Run an attempt: provision, run, collect, teardown."""

    execution_id: str
    attempt: int
    fence: int
    bench: BenchSpec
    run: RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAttempt:
    """End an attempt early, then collect and tear down."""

    execution_id: str
    attempt: int
    fence: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TearDownBench:
    """Tear down what an attempt of another life or worker left."""

    execution_id: str
    attempt: int
    fence: int
    bench: BenchSpec
    handle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSuperseded:
    """A newer life of this worker is registered: any older one stops at once."""

    newest_epoch: int
    newest_life: str = ""
    newest_host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveWhenIdle:
    """Take no new attempts, and leave when none runs."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeAccepted:
    """The life is registered: attempts may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeRefused:
    """The life is not registered, because another one of this worker is."""

    code: str
    reason: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckBenches:
    """Look whether these benches can be used, and change nothing."""

    benches: tuple[BenchCheck, ...]


Task = (
    RunAttempt
    | StopAttempt
    | TearDownBench
    | WorkerSuperseded
    | LeaveWhenIdle
    | LifeAccepted
    | LifeRefused
    | CheckBenches
)
