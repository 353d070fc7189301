"""Decides what users ask of executions. Pure."""

from collections.abc import Sequence
from datetime import datetime

from adapters.grammar import wrong_command, wrong_globs, wrong_variables
from events.commands import CancelExecution, SubmitExecution
from events.facts import (
    Event,
    ExecutionCancelRequested,
    ExecutionFinished,
    ExecutionSubmitted,
)
from events.limits import (
    LIMIT_BYTES_MAX,
    LIMIT_BYTES_MIN,
    LIMIT_PROCESSES_MAX,
    RETRIES_MAX,
    TIMEOUT_S_MAX,
)
from events.secrets import secrets_fault
from events.shared import VERDICTS_BY, CommandMeta, RunSpec, Totals
from processors.scheduler.rejection import may_change, reject
from processors.scheduler.reservations import limits_fault, selectors_fault, wait_end
from processors.scheduler.sizes import RUN_BYTES_MAX, run_bytes
from processors.scheduler.state import Execution, Pool

NO_TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)


def submit_execution(
    pool: Pool, command: SubmitExecution, meta: CommandMeta, now: datetime
) -> Sequence[Event]:
    """Accept a test run that some bench could serve."""
    fault = (
        _identity_fault(pool, command)
        or _run_fault(command.run)
        or _retries_fault(command)
        or limits_fault(command.priority, command.wait_timeout_s)
        or _reservation_fault(pool, command, meta)
        or selectors_fault(pool, [command.selector])
    )
    if fault is not None:
        return [reject(command, *fault, command.execution_id)]
    return [
        ExecutionSubmitted(
            execution_id=command.execution_id,
            owner=meta.actor,
            selector=command.selector,
            reservation_id=command.reservation_id,
            priority=command.priority,
            wait_until=wait_end(command.wait_timeout_s, now),
            retries=command.retries,
            run=command.run,
            retries_on_failure=command.retries_on_failure,
        )
    ]


def _identity_fault(pool: Pool, command: SubmitExecution) -> tuple[str, str] | None:
    execution_id = command.execution_id
    if execution_id and execution_id not in pool.executions and execution_id not in pool.ended:
        return None
    return "already_exists", f"execution {execution_id} exists; use a new id"


def _retries_fault(command: SubmitExecution) -> tuple[str, str] | None:
    for name in ("retries", "retries_on_failure"):
        if not 0 <= getattr(command, name) <= RETRIES_MAX:
            return "invalid_retries", f"{name} is from 0 to {RETRIES_MAX}"
    return None


def _run_fault(run: RunSpec) -> tuple[str, str] | None:
    wrong = (
        wrong_command(run.command)
        or wrong_variables(run.env)
        or wrong_globs(run.junit)
        or wrong_globs(run.artifacts)
    )
    if wrong is not None:
        return wrong.code, str(wrong)
    if not 0 < run.timeout_s <= TIMEOUT_S_MAX:
        return "invalid_duration", f"a timeout is more than 0 and at most {TIMEOUT_S_MAX:.0f} s"
    if run.idle_timeout_s is not None and not 0 < run.idle_timeout_s <= TIMEOUT_S_MAX:
        return "invalid_duration", "an idle timeout is more than 0 s; leave it out for none"
    if run.verdict_by not in VERDICTS_BY:
        return "invalid_run", f"verdict_by is one of {', '.join(VERDICTS_BY)}"
    if run.verdict_by == "report" and not run.junit:
        return "invalid_run", "the report cannot decide without one: name it with --junit"
    what, hint = secrets_fault(run.env)
    if what:
        return "invalid_secret", f"{what}; {hint}"
    if (fault := _limits_fault(run)) is not None:
        return fault
    if (size_bytes := run_bytes(run)) > RUN_BYTES_MAX:
        reason = f"command, environment and globs take {size_bytes} bytes, {RUN_BYTES_MAX} allowed"
        return "invalid_run", f"{reason}; put data into files that the test reads"
    return None


def _limits_fault(run: RunSpec) -> tuple[str, str] | None:
    for name in ("memory_max_bytes", "disk_max_bytes"):
        limit = getattr(run, name)
        if limit is not None and not LIMIT_BYTES_MIN <= limit <= LIMIT_BYTES_MAX:
            return "invalid_limit", f"{name} is from {LIMIT_BYTES_MIN} to {LIMIT_BYTES_MAX}"
    if run.processes_max is not None and not 1 <= run.processes_max <= LIMIT_PROCESSES_MAX:
        return "invalid_limit", f"processes_max is from 1 to {LIMIT_PROCESSES_MAX}"
    return None


def _reservation_fault(
    pool: Pool, command: SubmitExecution, meta: CommandMeta
) -> tuple[str, str] | None:
    reservation_id = command.reservation_id
    if reservation_id is None:
        return None
    reservation = pool.reservations.get(reservation_id)
    if reservation is None:
        if reservation_id in pool.ended:
            status = pool.ended[reservation_id].status
            return "reservation_ended", f"reservation {reservation_id} is over: it was {status}"
        return "no_such_reservation", f"pool {pool.name} has no reservation {reservation_id}"
    if not may_change(meta, reservation.owner):
        reason = f"reservation {reservation_id} belongs to {reservation.owner}, not to {meta.actor}"
        return "not_owner", reason
    fit = selectors_fault(pool, [command.selector])
    if fit is None and reservation.is_granted:
        matching = pool.matching(command.selector)
        if not any(name in matching for name in reservation.benches):
            benches = ", ".join(reservation.benches)
            reason = f"no bench of {reservation_id} ({benches}) matches {command.selector!r}"
            return "no_matching_bench", reason
    return fit


def cancel_execution(pool: Pool, command: CancelExecution, meta: CommandMeta) -> Sequence[Event]:
    """End an execution: at once if it waits, by way of its worker if it runs."""
    execution_id = command.execution_id
    execution = pool.executions.get(execution_id)
    if execution is None:
        ended = pool.ended.get(execution_id)
        if ended is None or ended.kind != "execution":
            reason = f"pool {pool.name} has no execution {execution_id}; `teo status` lists yours"
            return [reject(command, "no_such_execution", reason, execution_id)]
        reason = f"execution {execution_id} is finished: {ended.status}"
        return [reject(command, "execution_finished", reason, execution_id)]
    if not may_change(meta, execution.owner):
        reason = f"execution {execution_id} belongs to {execution.owner}, not to {meta.actor}"
        return [reject(command, "not_owner", reason, execution_id)]
    reason = command.reason or f"by {meta.actor}"
    return [end_early(execution, "cancelled_by_user", reason)]


def end_early(execution: Execution, code: str, reason: str) -> Event:
    """Return the fact that ends `execution`, or that asks its worker to end it.

    The first cause stands: asked again, it is repeated, so that a worker is told again too.
    """
    if execution.state == "active":
        code, reason = execution.cancel or (code, reason)
        return ExecutionCancelRequested(execution_id=execution.id, code=code, reason=reason)
    return ExecutionFinished(
        execution_id=execution.id,
        verdict="cancelled",
        code=code,
        reason=reason,
        attempts=execution.attempt,
        totals=execution.last.totals if execution.last is not None else NO_TOTALS,
    )
