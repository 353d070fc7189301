"""Decides what workers report. Pure.

A report counts only if it comes from the life of the worker that is registered, and, where it
speaks of an attempt, if that attempt is the one going on, with its fence. Anything else is stale:
it changes nothing, and a worker that does not know it is stale is told so.
"""

from collections.abc import Sequence
from typing import assert_never

from events.codes import LAB, fault_of, fault_told
from events.facts import (
    AttemptCasesRecorded,
    AttemptFinished,
    AttemptStepStarted,
    BenchCleaned,
    BenchQuarantined,
    WorkerDrained,
    WorkerGone,
)
from events.reports import (
    AttemptEnded,
    AttemptUnknown,
    BenchesChecked,
    BenchTornDown,
    Report,
    ResultsCollected,
    StepStarted,
    WorkerDraining,
    WorkerFaulty,
    WorkerHeartbeat,
    WorkerRecovered,
    WorkerStarted,
    WorkerStopped,
)
from events.shared import ReportMeta
from events.tasks import StopAttempt
from processors.scheduler.deadlines import ATTEMPT_UNKNOWN, give_up
from processors.scheduler.decision import Effect, Ignored, Order
from processors.scheduler.lives import is_of, superseded, worker_started
from processors.scheduler.service import benches_checked
from processors.scheduler.state import Execution, Pool, Worker
from processors.scheduler.workers import worker_faulty, worker_recovered

STEPS = ("provision", "run", "collect", "teardown")
REPEAT = Ignored(reason="repeat")


def decide_report(pool: Pool, report: Report, meta: ReportMeta) -> Sequence[Effect]:
    """Return what follows from a report; why nothing does, if it is a repeat or stale."""
    if isinstance(report, WorkerStarted):
        return worker_started(pool, report, meta)
    worker = pool.workers.get(meta.worker)
    if worker is None or not is_of(worker, meta):
        ignored = Ignored(reason=_why_foreign(worker, meta))
        is_beat = isinstance(report, WorkerHeartbeat)
        return [superseded(pool, meta), ignored] if is_beat else [ignored]
    match report:
        case WorkerHeartbeat():
            return _strays(pool, report, meta)
        case WorkerDraining():
            return _draining(worker, report)
        case WorkerStopped():
            return [WorkerGone(worker=worker.id, epoch=worker.epoch, reason=report.reason)]
        case StepStarted():
            return _step_started(pool, report, meta)
        case ResultsCollected():
            return _results_collected(pool, report, meta)
        case AttemptEnded():
            return _attempt_ended(pool, report, meta)
        case BenchTornDown():
            return _bench_torn_down(pool, report, meta)
        case AttemptUnknown():
            return _attempt_unknown(pool, report, meta)
        case WorkerFaulty() | WorkerRecovered() | BenchesChecked():
            return _service_told(pool, worker, report)
        case _:
            assert_never(report)


def _service_told(
    pool: Pool, worker: Worker, report: WorkerFaulty | WorkerRecovered | BenchesChecked
) -> Sequence[Effect]:
    """Return what follows from what a worker says of what it can serve."""
    if isinstance(report, BenchesChecked):
        return benches_checked(pool, worker, report)
    if isinstance(report, WorkerFaulty):
        return worker_faulty(worker, report)
    return worker_recovered(worker, report)


def _why_foreign(worker: Worker | None, meta: ReportMeta) -> str:
    if worker is None:
        return "unknown_worker"
    return "other_life" if worker.life or meta.life else "other_epoch"


def _strays(pool: Pool, report: WorkerHeartbeat, meta: ReportMeta) -> Sequence[Effect]:
    """Stop attempts that the worker runs and should not."""
    orders: list[Effect] = []
    for ref in report.running:
        if _current(pool, meta, ref.execution_id, ref.attempt) is None:
            task = StopAttempt(
                execution_id=ref.execution_id,
                attempt=ref.attempt,
                fence=0,
                code="stale_attempt",
                reason="this attempt is over for the scheduler",
            )
            orders.append(Order(worker=meta.worker, epoch=meta.epoch, life=meta.life, task=task))
    return orders


def _draining(worker: Worker, report: WorkerDraining) -> Sequence[Effect]:
    if worker.is_draining:
        return [REPEAT]
    return [WorkerDrained(worker=worker.id, epoch=worker.epoch, reason=report.reason)]


def _current(pool: Pool, meta: ReportMeta, execution_id: str, attempt: int) -> Execution | None:
    """Return the execution whose going attempt this is and whose worker this is."""
    execution = pool.executions.get(execution_id)
    if (
        execution is None
        or execution.state != "active"
        or execution.attempt != attempt
        or execution.worker != meta.worker
        or execution.epoch != pool.workers[meta.worker].epoch
    ):
        return None
    return execution


def _fenced(
    pool: Pool,
    meta: ReportMeta,
    report: StepStarted | ResultsCollected | AttemptEnded | AttemptUnknown,
) -> Execution | Ignored:
    """Return the execution a report may speak of, or why it may not."""
    execution = _current(pool, meta, report.execution_id, report.attempt)
    if execution is not None:
        return execution if execution.fence == report.fence else Ignored(reason="other_fence")
    is_known = report.execution_id in pool.executions or report.execution_id in pool.ended
    return Ignored(reason="attempt_over" if is_known else "unknown_execution")


def _step_started(pool: Pool, report: StepStarted, meta: ReportMeta) -> Sequence[Effect]:
    execution = _fenced(pool, meta, report)
    if isinstance(execution, Ignored):
        return [execution]
    if report.step not in STEPS:
        return [Ignored(reason="unknown_step")]
    if report.step == execution.step:
        return [REPEAT]
    if execution.step and STEPS.index(report.step) < STEPS.index(execution.step):
        return [Ignored(reason="step_backwards")]
    return [
        AttemptStepStarted(
            execution_id=execution.id,
            attempt=execution.attempt,
            step=report.step,
            handle=report.handle,
        )
    ]


def _results_collected(pool: Pool, report: ResultsCollected, meta: ReportMeta) -> Sequence[Effect]:
    execution = _fenced(pool, meta, report)
    if isinstance(execution, Ignored):
        return [execution]
    if report.first_case < execution.cases:
        return [REPEAT]
    if report.first_case > execution.cases or not report.cases:
        return [Ignored(reason="cases_missing")]
    return [
        AttemptCasesRecorded(
            execution_id=execution.id,
            attempt=execution.attempt,
            first_case=report.first_case,
            cases=report.cases,
        )
    ]


def _attempt_ended(pool: Pool, report: AttemptEnded, meta: ReportMeta) -> Sequence[Effect]:
    execution = _fenced(pool, meta, report)
    if isinstance(execution, Ignored):
        return [execution]
    finished = AttemptFinished(
        execution_id=execution.id,
        attempt=execution.attempt,
        bench=execution.bench,
        worker=execution.worker,
        verdict=report.verdict,
        code=report.code,
        reason=report.reason,
        exit_code=report.exit_code,
        signal=report.signal,
        totals=report.totals,
        artifacts=report.artifacts,
        is_retriable=report.is_retriable,
        fault=_whose(report),
    )
    if not report.teardown_error:
        return [finished]
    reason = f"teardown of {execution.id} failed: {report.teardown_error}"
    return [finished, BenchQuarantined(bench=execution.bench, reason=reason)]


def _whose(report: AttemptEnded) -> str:
    """Return whose fault an end is: as its worker says, if that is in keeping with the verdict."""
    fault = fault_told(report.verdict, report.code, report.fault)
    if (fault in LAB) == (report.verdict == "error"):
        return fault
    return fault_of(report.verdict, report.code)


def _attempt_unknown(pool: Pool, report: AttemptUnknown, meta: ReportMeta) -> Sequence[Effect]:
    """End an attempt that its life was told to stop and does not run: nobody else will."""
    execution = _fenced(pool, meta, report)
    if isinstance(execution, Ignored):
        return [execution]
    reason = f"worker {meta.worker} was told to stop it and does not run it"
    return give_up(execution, ATTEMPT_UNKNOWN, reason)


def _bench_torn_down(pool: Pool, report: BenchTornDown, meta: ReportMeta) -> Sequence[Effect]:
    bench = pool.benches.get(report.bench)
    cleaning = bench.cleaning if bench is not None else None
    if bench is None or cleaning is None:
        return [Ignored(reason="no_teardown_owed")]
    if (cleaning.worker, cleaning.epoch) != (meta.worker, pool.workers[meta.worker].epoch):
        return [Ignored(reason="no_teardown_owed")]
    if (cleaning.execution_id, cleaning.fence) != (report.execution_id, report.fence):
        return [Ignored(reason="other_fence")]
    if not report.error:
        return [BenchCleaned(bench=report.bench, fence=cleaning.fence)]
    reason = f"teardown of {report.execution_id} failed: {report.error}"
    return [BenchQuarantined(bench=report.bench, reason=reason)]
