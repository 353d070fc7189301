"""The record that tells CI and analytics how an execution ended. Pure."""

from events.facts import ExecutionFinished
from events.results import ExecutionResult
from events.shared import EventMeta
from processors.scheduler.state import Execution


def result_of(
    execution: Execution, event: ExecutionFinished, meta: EventMeta, partition: int
) -> ExecutionResult:
    """Return the result that `event` is about to bring; `execution` still stands before it."""
    last = execution.last
    return ExecutionResult(
        result_id=meta.event_id,
        execution_id=execution.id,
        pool=meta.pool,
        owner=execution.owner,
        verdict=event.verdict,
        code=event.code,
        reason=event.reason,
        exit_code=event.exit_code,
        attempts=event.attempts,
        bench=execution.bench,
        totals=event.totals,
        artifacts=last.artifacts if last is not None else (),
        submitted_at=execution.submitted_at,
        started_at=execution.started_at,
        finished_at=meta.occurred_at,
        journal_partition=partition,
        journal_seq=meta.seq,
        correlation_id=meta.correlation_id,
        traceparent=meta.traceparent,
        is_flaky=event.is_flaky,
        fault=event.fault,
    )
