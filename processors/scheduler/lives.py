"""Decides which process a worker is: of all that ask under its id, one life is registered. Pure.

A life asks (`WorkerStarted`) until it is answered. It is accepted if no other life is registered,
or if it knows that the process of that one is dead: it has the lock of its state folder. Otherwise
it is refused, aloud, and asks again. A registered life that is not heard of is lost by its
deadline, which waits for what is unread (`deadlines.py`): then the next ask is accepted. So two
processes under one id never both get attempts, whatever their folders say.
"""

from collections.abc import Sequence

from events.facts import WorkerLost, WorkerRefused, WorkerRegistered
from events.reports import WorkerStarted
from events.shared import ReportMeta
from events.tasks import LifeAccepted, LifeRefused, WorkerSuperseded
from processors.scheduler.decision import Effect, Ignored, Order
from processors.scheduler.state import Pool, Worker

ID_IN_USE = "id_in_use"
"""Code of the refusal of a life whose worker id another life has."""

EPOCH_ASKED_MAX = 2**53
"""A life that asks for more read something else from its folder: epochs must be able to rise."""


def is_of(worker: Worker, meta: ReportMeta) -> bool:
    """Return True if `meta` is of the registered life: by its id, or its epoch if it has none."""
    return worker.life == meta.life and (bool(worker.life) or worker.epoch == meta.epoch)


def is_current(pool: Pool, meta: ReportMeta) -> bool:
    """Return True if `meta` is of the registered life of its worker."""
    worker = pool.workers.get(meta.worker)
    return worker is not None and is_of(worker, meta)


def superseded(pool: Pool, meta: ReportMeta) -> Order:
    """Tell a life that is not registered: it begins anew if no other life is, else it ends."""
    newest = pool.workers.get(meta.worker)
    return Order(
        worker=meta.worker,
        epoch=meta.epoch,
        life=meta.life,
        task=WorkerSuperseded(
            newest_epoch=max(pool.epochs.get(meta.worker, 0), meta.epoch),
            newest_life=newest.life if newest is not None else "",
            newest_host=newest.host if newest is not None else "",
        ),
    )


def worker_started(pool: Pool, report: WorkerStarted, meta: ReportMeta) -> Sequence[Effect]:
    """Accept, refuse or answer again a life that asks."""
    known = pool.workers.get(meta.worker)
    if known is not None and is_of(known, meta):
        return [*_answer(known, meta), Ignored(reason="repeat")]
    if _is_over(pool, meta):
        reason = "other_life" if meta.life else "other_epoch"
        return [superseded(pool, meta), Ignored(reason=reason)]
    if known is not None and not _follows(known, report, meta):
        return _refuse(known, report, meta)
    return _register(pool, report, meta)


def _is_over(pool: Pool, meta: ReportMeta) -> bool:
    """Return True if the life that asks had its time: its attempts were given to others."""
    if meta.life:
        return meta.life == pool.lives.get(meta.worker)
    return meta.epoch <= pool.epochs.get(meta.worker, -1)


def _follows(known: Worker, report: WorkerStarted, meta: ReportMeta) -> bool:
    """Return True if the process of the registered life is dead, by what the new one knows.

    A life that has no id, or that follows one without, is judged by its epoch: from before.
    """
    if known.life and meta.life:
        return report.after_life == known.life
    return meta.epoch > known.epoch


def _answer(known: Worker, meta: ReportMeta) -> Sequence[Order]:
    """Tell a life once more that it is accepted: it may not have heard it."""
    if not meta.life:
        return []
    accepted = LifeAccepted()
    return [Order(worker=known.id, epoch=known.epoch, life=meta.life, task=accepted)]


def _register(pool: Pool, report: WorkerStarted, meta: ReportMeta) -> Sequence[Effect]:
    """Register a life, under an epoch above all that the log has; end the one that it follows."""
    asked = meta.epoch if meta.epoch <= EPOCH_ASKED_MAX else 0
    registered = WorkerRegistered(
        worker=meta.worker,
        epoch=max(asked, pool.epochs.get(meta.worker, 0) + 1),
        adapters=report.adapters,
        benches=report.benches,
        slots=report.slots,
        version=report.version,
        life=meta.life,
        host=report.host,
    )
    known = pool.workers.get(meta.worker)
    if known is None:
        return [registered]
    told = WorkerSuperseded(
        newest_epoch=registered.epoch, newest_life=meta.life, newest_host=report.host
    )
    return [
        WorkerLost(
            worker=known.id,
            epoch=known.epoch,
            reason=f"life {registered.epoch} began over it",
        ),
        Order(worker=known.id, epoch=known.epoch, life=known.life, task=told),
        registered,
    ]


def _refuse(known: Worker, report: WorkerStarted, meta: ReportMeta) -> Sequence[Effect]:
    """Turn a life away: a fact once, so that people see it, and an answer each time."""
    where = known.host or "another host"
    reason = f"a process on {where} runs as worker {known.id} and is heard of"
    refused = LifeRefused(
        code=ID_IN_USE,
        reason=f"{reason}: choose another --id, or stop that one",
        host=known.host,
    )
    told = Order(worker=meta.worker, epoch=meta.epoch, life=meta.life, task=refused)
    if meta.life in known.refused:
        return [told, Ignored(reason=ID_IN_USE)]
    fact = WorkerRefused(
        worker=meta.worker, life=meta.life, host=report.host, code=ID_IN_USE, reason=reason
    )
    return [fact, told]
