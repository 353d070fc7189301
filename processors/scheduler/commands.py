"""Decides what users ask: one `match`, each branch named after its command. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from events.commands import (
    ApplyBenches,
    CancelExecution,
    Command,
    DiscardDeadLetter,
    DrainWorker,
    ExtendReservation,
    QuarantineBench,
    ReleaseReservation,
    ReplayDeadLetter,
    RequestReservation,
    RestoreBench,
    ResumeWorker,
    SubmitExecution,
)
from events.shared import CommandMeta
from processors.scheduler.benches import apply_benches, quarantine_bench, restore_bench
from processors.scheduler.dead_letters import settle_dead_letter
from processors.scheduler.decision import Effect
from processors.scheduler.executions import cancel_execution, submit_execution
from processors.scheduler.rejection import reject
from processors.scheduler.reservations import (
    extend_reservation,
    release_reservation,
    request_reservation,
)
from processors.scheduler.state import Pool
from processors.scheduler.workers import change_worker

WITHOUT_BENCHES = (ApplyBenches, DrainWorker, ReplayDeadLetter, DiscardDeadLetter)
"""Commands that make sense for a pool that has no bench: yet, or because its name was garbled."""


def decide_command(
    pool: Pool, command: Command, meta: CommandMeta, now: datetime
) -> Iterable[Effect]:
    """Return what follows from a command that was not decided before: at least one event.

    The caller applies each before it asks for the next.
    """
    if not pool.benches and not isinstance(command, WITHOUT_BENCHES):
        reason = f"there is no pool {meta.pool}; `teo pool list` shows the pools there are"
        return [reject(command, "no_such_pool", reason, meta.pool)]
    match command:
        case ApplyBenches():
            return apply_benches(pool, command)
        case QuarantineBench():
            return quarantine_bench(pool, command)
        case RestoreBench():
            return restore_bench(pool, command)
        case RequestReservation():
            return request_reservation(pool, command, meta, now)
        case ExtendReservation():
            return extend_reservation(pool, command, meta, now)
        case ReleaseReservation():
            return release_reservation(pool, command, meta)
        case SubmitExecution():
            return submit_execution(pool, command, meta, now)
        case CancelExecution():
            return cancel_execution(pool, command, meta)
        case DrainWorker() | ResumeWorker():
            return change_worker(pool, command, meta)
        case ReplayDeadLetter() | DiscardDeadLetter():
            return settle_dead_letter(command, meta)
        case _:
            assert_never(command)
