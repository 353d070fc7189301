"""What goes into a decision and what comes out of it. Data only."""

from dataclasses import dataclass
from datetime import datetime

from events.dlq import DeadLetter
from events.facts import Event
from events.message import CommandMessage, EventMessage, ReportMessage, TaskMessage
from events.results import ExecutionResult
from events.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A command or report as it stands on the log.

    `at` is its append time (aware UTC), `received_s` when it was read, on a monotonic clock.
    """

    topic: str
    offset: int
    at: datetime
    received_s: float
    message: CommandMessage | ReportMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time passed: `now` is the runtime's clock (aware UTC), `monotonic_s` that of deadlines."""

    now: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A task for one life of a worker, before it is stamped."""

    worker: str
    epoch: int
    task: Task
    life: str = ""
    """Empty: the life that is registered with this epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """An input that changes nothing, and why: one word, for whoever counts."""

    reason: str


Effect = Event | Order | Ignored
"""What decisions and reactions return: facts to put down, orders that follow, and why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All that one input led to; written in one transaction."""

    events: tuple[EventMessage, ...] = ()
    tasks: tuple[TaskMessage, ...] = ()
    results: tuple[ExecutionResult, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    ignored: tuple[str, ...] = ()
    """Why the input changed nothing. Not written: a repeat would grow the journal."""
