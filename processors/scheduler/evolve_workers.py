"""What facts about workers change in the state: which life is registered, and what it can serve."""

from collections.abc import Callable, Mapping
from typing import Any

from events import facts
from events.shared import EventMeta
from processors.scheduler.state import Checked, Pool, Worker

REFUSED_LIVES_MAX = 32
"""Of one worker: more processes that ask at once under one id than anybody will start."""


def _worker_registered(pool: Pool, event: facts.WorkerRegistered, _: EventMeta) -> None:
    pool.epochs[event.worker] = event.epoch
    pool.lives[event.worker] = event.life
    pool.workers[event.worker] = Worker(
        id=event.worker,
        epoch=event.epoch,
        adapters=frozenset(event.adapters),
        benches=frozenset(event.benches),
        slots=event.slots,
        life=event.life,
        host=event.host,
    )


def _worker_refused(pool: Pool, event: facts.WorkerRefused, _: EventMeta) -> None:
    worker = pool.workers.get(event.worker)
    if worker is not None:
        worker.refused = (*worker.refused, event.life)[-REFUSED_LIVES_MAX:]


def _worker_drained(pool: Pool, event: facts.WorkerDrained, _: EventMeta) -> None:
    pool.workers[event.worker].is_draining = True


def _worker_suspended(pool: Pool, event: facts.WorkerSuspended, _: EventMeta) -> None:
    worker = pool.workers[event.worker]
    worker.suspended = event.code
    worker.why_suspended = event.reason


def _worker_resumed(pool: Pool, event: facts.WorkerResumed, meta: EventMeta) -> None:
    """By its own word its disk works again; only somebody else's word takes back its faults."""
    worker = pool.workers[event.worker]
    worker.suspended = ""
    worker.why_suspended = ""
    if not meta.actor.startswith("worker:"):
        worker.faults = 0


def _checks_recorded(pool: Pool, event: facts.BenchChecksRecorded, _: EventMeta) -> None:
    checks = pool.workers[event.worker].checks
    for each in event.checks:
        checks[each.bench] = Checked(each.version, each.code, each.reason)


def _worker_ended(pool: Pool, event: facts.WorkerLost | facts.WorkerGone, _: EventMeta) -> None:
    pool.workers.pop(event.worker)
    for bench in pool.benches.values():
        if bench.cleaning is not None and bench.cleaning.worker == event.worker:
            bench.cleaning.worker = ""
            bench.cleaning.epoch = -1


APPLY: Mapping[type, Callable[[Pool, Any, EventMeta], None]] = {
    facts.WorkerRegistered: _worker_registered,
    facts.WorkerRefused: _worker_refused,
    facts.WorkerDrained: _worker_drained,
    facts.WorkerSuspended: _worker_suspended,
    facts.WorkerResumed: _worker_resumed,
    facts.BenchChecksRecorded: _checks_recorded,
    facts.WorkerGone: _worker_ended,
    facts.WorkerLost: _worker_ended,
}
