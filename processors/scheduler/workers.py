"""Decides what operators ask of workers, and what becomes of one whose own faults pile up. Pure.

A worker is suspended for one of two reasons: it says itself that it can run nothing, until it says
that it can; or attempt after attempt ended by a fault of its own, until an operator resumes it or
it begins a new life.
"""

from collections.abc import Sequence

from events.codes import UNSURE, fault_told
from events.commands import DrainWorker, ResumeWorker
from events.facts import AttemptFinished, WorkerDrained, WorkerResumed, WorkerSuspended
from events.reports import WorkerFaulty, WorkerRecovered
from events.shared import CommandMeta
from events.tasks import LeaveWhenIdle
from processors.scheduler.decision import Effect, Ignored, Order
from processors.scheduler.rejection import reject
from processors.scheduler.state import Pool, Worker

FAULTS_MAX = 5
"""So many attempts in a row that ended by its own fault suspend a worker."""
FAULTS = "faults"
"""Code of a suspension that only an operator or a new life ends."""
REASON_CHARS_MAX = 600


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
    if isinstance(command, DrainWorker):
        return _drain(worker, command, meta)
    if not worker.suspended:
        reason = f"worker {worker.id} is not suspended: nothing to resume"
        return [reject(command, "not_suspended", reason, worker.id)]
    reason = command.reason or f"resumed by {meta.actor}"
    return [WorkerResumed(worker=worker.id, epoch=worker.epoch, reason=reason)]


def _drain(worker: Worker, command: DrainWorker, meta: CommandMeta) -> Sequence[Effect]:
    """Give a worker nothing more, and tell it to leave once it runs nothing. Twice is once."""
    reason = command.reason or f"drained by {meta.actor}"
    return [
        WorkerDrained(worker=worker.id, epoch=worker.epoch, reason=reason),
        Order(worker=worker.id, epoch=worker.epoch, task=LeaveWhenIdle(reason=reason)),
    ]


def worker_faulty(worker: Worker, report: WorkerFaulty) -> Sequence[Effect]:
    """Suspend a worker that says it can run nothing."""
    if worker.suspended:
        return [Ignored(reason="repeat")]
    reason = report.reason[:REASON_CHARS_MAX]
    return [WorkerSuspended(worker=worker.id, epoch=worker.epoch, code=report.code, reason=reason)]


def worker_recovered(worker: Worker, report: WorkerRecovered) -> Sequence[Effect]:
    """Resume a worker that was suspended by its own word; not one whose faults piled up."""
    if worker.suspended in ("", FAULTS):
        return [Ignored(reason="not_suspended" if not worker.suspended else "still_suspended")]
    return [WorkerResumed(worker=worker.id, epoch=worker.epoch, reason=report.reason)]


def faults_after(faults: int, event: AttemptFinished) -> int:
    """Return how many attempts in a row ended by the worker's own fault, after one more.

    An attempt that was cancelled, or that the network ended, or perhaps the test itself, says
    nothing of the worker.
    """
    fault = fault_told(event.verdict, event.code, event.fault)
    if fault == "network" or event.verdict == "cancelled" or event.code in UNSURE:
        return faults
    return faults + 1 if fault == "worker" else 0


def too_many_faults(worker: Worker | None, event: AttemptFinished) -> Sequence[WorkerSuspended]:
    """Return the suspension of the worker of `event`, if that was one fault too many."""
    if worker is None or worker.is_draining or worker.suspended == FAULTS:
        return []
    if worker.faults < FAULTS_MAX:
        return []
    last = f"{event.code}: {event.reason}"[:REASON_CHARS_MAX]
    reason = (
        f"{worker.faults} attempts in a row ended by its own fault, the last: {last}; mend it, "
        f"then `teo worker resume {worker.id}` or start it again"
    )
    return [WorkerSuspended(worker=worker.id, epoch=worker.epoch, code=FAULTS, reason=reason)]
