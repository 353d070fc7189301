"""Decides what operators ask of workers. Pure."""

from collections.abc import Sequence

from events.commands import DrainWorker, ResumeWorker
from events.facts import WorkerDrained
from events.shared import CommandMeta
from events.tasks import LeaveWhenIdle
from processors.scheduler.decision import Effect, Order
from processors.scheduler.rejection import reject
from processors.scheduler.state import Pool, Worker


def change_worker(
    pool: Pool, command: DrainWorker | ResumeWorker, meta: CommandMeta
) -> Sequence[Effect]:
    """Return what follows from a command to a live worker; its refusal if there is no such one."""
    worker = pool.workers.get(command.worker)
    if worker is None:
        reason = (
            f"pool {pool.name} has no live worker {command.worker}; "
            "`teo worker list` shows those there are"
        )
        return [reject(command, "no_such_worker", reason, command.worker)]
    if isinstance(command, ResumeWorker):
        reason = f"worker {worker.id} is not suspended: nothing to resume"
        return [reject(command, "not_suspended", reason, worker.id)]
    return _drain(worker, command, meta)


def _drain(worker: Worker, command: DrainWorker, meta: CommandMeta) -> Sequence[Effect]:
    """Give a worker nothing more, and tell it to leave once it runs nothing. Twice is once."""
    reason = command.reason or f"drained by {meta.actor}"
    return [
        WorkerDrained(worker=worker.id, epoch=worker.epoch, reason=reason),
        Order(worker=worker.id, epoch=worker.epoch, task=LeaveWhenIdle(reason=reason)),
    ]
