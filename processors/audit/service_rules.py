"""The rule of who may get attempts: workers that are fit, on benches that they took."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from events import facts
from events.message import EventMessage
from processors.audit.rule import BenchKey, Rule
from processors.scheduler.workers import FAULTS_MAX, faults_after


@dataclass(slots=True)
class _Worker:
    """What a worker said and did in the life that it is in."""

    has_life: bool
    suspended: str = ""
    faults: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    """Version of each bench that it took."""


class AttemptsGoWhereTheyAreServed(Rule):
    """No attempt goes to a worker that is suspended, or whose own faults pile up, nor to one that
    did not take the bench as it is."""

    name = "attempts_go_where_they_are_served"

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], _Worker] = {}
        self._benches: dict[BenchKey, tuple[int, str, str]] = {}
        """Since when, with which adapter and config, each bench is as it is."""

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        match message.body:
            case facts.BenchRegistered(bench=spec):
                before = self._benches.get((meta.pool, spec.name))
                if before is None or before[1:] != (spec.adapter, spec.config):
                    known = (meta.seq, spec.adapter, spec.config)
                    self._benches[meta.pool, spec.name] = known
            case facts.WorkerRegistered() as registered:
                key = (meta.pool, registered.worker)
                self._workers[key] = _Worker(has_life=bool(registered.life))
            case facts.ExecutionAssigned() as assigned:
                yield from self._assigned(meta.pool, assigned)
            case (
                facts.WorkerSuspended()
                | facts.WorkerResumed()
                | facts.BenchChecksRecorded()
                | facts.AttemptFinished() as told
            ):
                yield from self._told(message, told)

    def _told(
        self,
        message: EventMessage,
        told: facts.WorkerSuspended
        | facts.WorkerResumed
        | facts.BenchChecksRecorded
        | facts.AttemptFinished,
    ) -> Iterator[str]:
        worker = self._workers.get((message.meta.pool, told.worker))
        if worker is None:
            return
        match told:
            case facts.WorkerSuspended():
                worker.suspended = told.code
            case facts.WorkerResumed():
                worker.suspended = ""
                if not message.meta.actor.startswith("worker:"):
                    worker.faults = 0
            case facts.BenchChecksRecorded():
                if message.meta.actor != f"worker:{told.worker}":
                    yield f"a stale word: worker:{told.worker} was to look"
                for each in told.checks:
                    worker.taken[each.bench] = -1 if each.code else each.version
            case facts.AttemptFinished():
                # Facts from before they said whose fault it was suspended nobody.
                is_old = told.verdict == "error" and not told.fault
                worker.faults = 0 if is_old else faults_after(worker.faults, told)

    def _assigned(self, pool: str, assigned: facts.ExecutionAssigned) -> Iterator[str]:
        worker = self._workers.get((pool, assigned.worker))
        if worker is None:
            return
        if worker.suspended:
            yield f"{assigned.worker} is suspended ({worker.suspended}) and gets an attempt"
        if worker.faults >= FAULTS_MAX:
            yield f"{assigned.worker} gets an attempt after {worker.faults} faults of its own"
        version, *_ = self._benches.get((pool, assigned.bench), (-1, "", ""))
        if worker.has_life and worker.taken.get(assigned.bench) != version:
            yield f"{assigned.worker} gets an attempt on {assigned.bench}, which it did not take"
