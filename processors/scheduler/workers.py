"""Decides what operators ask of workers. Pure."""

from collections.abc import Sequence

from events.commands import DrainWorker
from events.facts import WorkerDrained
from events.shared import CommandMeta
from events.tasks import LeaveWhenIdle
from processors.scheduler.decision import Effect, Order
from processors.scheduler.rejection import reject
from processors.scheduler.state import Pool


def drain_worker(pool: Pool, command: DrainWorker, meta: CommandMeta) -> Sequence[Effect]:
    """Give a worker nothing more, and tell it to leave once it runs nothing. Twice is once."""
    worker = pool.workers.get(command.worker)
    if worker is None:
        reason = (
            f"pool {pool.name} has no live worker {command.worker}; "
            "`teo worker list` shows those there are"
        )
        return [reject(command, "no_such_worker", reason, command.worker)]
    reason = command.reason or f"drained by {meta.actor}"
    return [
        WorkerDrained(worker=worker.id, epoch=worker.epoch, reason=reason),
        Order(worker=worker.id, epoch=worker.epoch, task=LeaveWhenIdle(reason=reason)),
    ]
