"""Decides what users ask: one `match`, each branch named after its command. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from events.commands import (
    ApplyBenches,
    CancelExecution,
    Command,
    ExtendReservation,
    QuarantineBench,
    ReleaseReservation,
    RequestReservation,
    RestoreBench,
    SubmitExecution,
)
from events.facts import Event
from events.shared import CommandMeta
from processors.scheduler.benches import apply_benches, quarantine_bench, restore_bench
from processors.scheduler.executions import cancel_execution, submit_execution
from processors.scheduler.rejection import reject
from processors.scheduler.reservations import (
    extend_reservation,
    release_reservation,
    request_reservation,
)
from processors.scheduler.state import Pool


def decide_command(
    pool: Pool, command: Command, meta: CommandMeta, now: datetime
) -> Sequence[Event]:
    """Return what follows from a command that was not decided before: at least one event."""
    if not pool.benches and not isinstance(command, ApplyBenches):
        reason = f"there is no pool {meta.pool}; `teo pool list` shows the pools there are"
        return [reject(command, "no_such_pool", reason, meta.pool)]
    match command:
        case ApplyBenches():
            return apply_benches(command)
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
        case _:
            assert_never(command)
