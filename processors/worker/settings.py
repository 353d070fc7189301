"""How a worker is set up: its name, what it serves, and every limit it keeps. Data only."""

from dataclasses import dataclass, field
from pathlib import Path

from events.secrets import SECRET_NAMES

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """How long each step may take, seconds. The run step's limit comes with the run.

    All that a healthy attempt may take with them stays below what the scheduler grants it beyond
    its run, with any limits a bench sets for its own steps: `deadlines.attempt_limit_s`. Raise one
    here and `test_step_limits.py` says what to raise there.
    """

    provision_s: float = 240.0
    collect_s: float = 120.0
    upload_s: float = 120.0
    """Of the log, and once more of what was collected."""
    teardown_s: float = 60.0
    grace_s: float = 5.0
    """Between SIGTERM and SIGKILL of a test that is stopped."""
    check_s: float = 20.0
    """Of looking at a bench before anything runs there."""
    kill_s: float = 10.0
    """From cancelling an adapter's `run` until it is given up; more than `grace_s`."""
    cancel_s: float = 5.0
    """What any other cancelled adapter call gets to clean up before it is left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """How fast lines go to the log; what is beyond goes to the attempt's file only."""

    batch_s: float = 0.05
    batch_lines_max: int = 500
    batch_bytes_max: int = 256 * 1024
    batches_max: int = 8
    """Batches written in one append."""
    line_bytes_max: int = 64 * 1024
    buffer_bytes_max: int = 32 * MIB
    rate_lines_s: float = 20_000.0
    burst_lines: float = 500_000.0
    rate_bytes_s: float = 4.0 * MIB
    burst_bytes: float = 128.0 * MIB
    file_bytes_max: int = 1024 * MIB
    flush_s: float = 10.0
    """How long the end of an attempt waits for its last lines to be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceLimits:
    """What is kept of an attempt."""

    reports_bytes_max: int = 512 * MIB
    """Of all reports of an attempt; as much as one may have."""
    reports_s: float = 75.0
    """How long reading them may take, of `upload_s`. It takes a minute when nothing else runs."""
    cases_max: int = 50_000
    cases_per_report_max: int = 500
    cases_bytes_per_report_max: int = 500_000
    artifacts_max: int = 1_000
    artifacts_bytes_max: int = 10 * 1024 * MIB
    artifacts_list_bytes_max: int = 700_000
    """What the names of all files may cost in the last report, which is one record."""
    upload_tries_max: int = 5
    upload_backoff_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLimits:
    """What waits to be taken by the log."""

    records_max: int = 10_000
    bytes_max: int = 64 * MIB
    batch_records_max: int = 200
    batch_bytes_max: int = 4 * MIB
    backoff_s: float = 0.1
    backoff_s_max: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """A worker."""

    worker: str
    pool: str
    state_dir: Path
    version: str
    host: str = ""
    """Where it runs, for people; empty: not told."""
    benches: tuple[str, ...] = ()
    """Benches it serves; empty: every bench whose adapter it has."""
    slots: int = 4
    heartbeat_s: float = 2.0
    deadline_s: float = 6.0
    """Without an acknowledged word for so long it fences itself. Below the scheduler's."""
    scheduler_deadline_s: float = 10.0
    """When the scheduler gives its benches away: what it tears down must be down by then."""
    refused_s: float = 30.0
    """For how long of being refused it asks on, because another process runs under its id.

    More than the scheduler's deadline: by then that one is lost, if it is dead.
    """
    append_timeout_s: float = 2.0
    drain_s: float = 600.0
    goodbye_s: float = 5.0
    """How long its last report may take."""
    poll_s: float = 1.0
    poll_records_max: int = 200
    leftovers_s: float = 120.0
    """How long attempts wait while it clears what lives before it left; the rest stays noted."""
    forget_fences: bool = False
    """It begins by forgetting which fences it saw: the log was begun anew on purpose."""
    teardowns_max: int = 16
    """Compensations done at once."""
    probe_s: float = 3.0
    """How often the state folder is tried, whether attempts run or not."""
    probe_limit_s: float = 5.0
    check_again_s: float = 30.0
    """How often benches are looked at again that an adapter refused."""
    seen_max: int = 10_000
    """Attempts of this life remembered, to know a repeat."""
    secret_names: tuple[str, ...] = SECRET_NAMES
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What the worker itself was given and a bench may pass on: hidden in all text it keeps."""
    steps: StepLimits = StepLimits()
    log: LogLimits = LogLimits()
    evidence: EvidenceLimits = EvidenceLimits()
    outbox: OutboxLimits = OutboxLimits()

    def __post_init__(self) -> None:
        for name in ("worker", "pool"):
            if not getattr(self, name):
                raise ValueError(f"a worker needs a {name}: set `{name}` and start it again")
        if self.slots < 1:
            raise ValueError(f"slots is {self.slots}: a worker needs at least 1")
        if not self.heartbeat_s < self.deadline_s < self.scheduler_deadline_s:
            raise ValueError(
                f"heartbeat_s {self.heartbeat_s} < deadline_s {self.deadline_s} < "
                f"scheduler_deadline_s {self.scheduler_deadline_s} must hold: "
                "a worker must give up before the scheduler gives its benches away"
            )

    @property
    def fence_s(self) -> float:
        """How long a worker that fenced itself may take to end and tear down what it ran."""
        return (self.scheduler_deadline_s - self.deadline_s) * 0.75

    @property
    def abandon_s(self) -> float:
        """The part of `fence_s` in which a test that is abandoned must end."""
        return self.fence_s * 0.25

    @property
    def fence_teardown_s(self) -> float:
        """The part of `fence_s` in which its bench must be torn down."""
        return self.fence_s * 0.6
