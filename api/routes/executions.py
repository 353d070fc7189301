"""Executions: submitting test runs, watching them, cancelling them."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from api.answering import command_answer, list_answer, new_subject, until
from api.auth.principal import Role
from api.call import Call
from api.encoding import json_response
from api.models.answers import Execution, Items
from api.models.queries import CancelQuery, ExecutionQuery, ExecutionsQuery
from api.models.requests import ExecutionBody, RunBody
from api.operations import Operation
from api.problems import Problem, not_found
from api.routes.benches import words
from api.routes.pools import pool_or_only
from events.commands import CancelExecution, SubmitExecution
from events.shared import RunSpec
from projections.rows import ExecutionFilter, ExecutionRow


async def submit_execution(call: Call) -> Response:
    """Ask for a test run; answered at once, running or waiting."""
    body = call.body_as(ExecutionBody)
    pool = await _pool(call, body)
    command = SubmitExecution(
        execution_id=new_subject(call, "exe"),
        selector=body.selector,
        reservation_id=body.reservation_id,
        priority=body.priority,
        wait_timeout_s=body.wait_timeout_s,
        retries=body.retries,
        retries_on_failure=body.retries_on_failure,
        run=_run(body.run),
    )
    return await command_answer(
        call, pool, command, _reader(call), status=201, location="/v1/executions"
    )


def _run(run: RunBody) -> RunSpec:
    return RunSpec(
        command=tuple(run.command),
        env=run.env,
        timeout_s=run.timeout_s,
        idle_timeout_s=run.idle_timeout_s,
        junit=tuple(run.junit),
        artifacts=tuple(run.artifacts),
        verdict_by=run.verdict_by,
        memory_max_bytes=run.memory_max_bytes,
        processes_max=run.processes_max,
        disk_max_bytes=run.disk_max_bytes,
    )


async def _pool(call: Call, body: ExecutionBody) -> str:
    """Return the pool named, or the reservation's, or the only one."""
    if body.pool is not None or body.reservation_id is None:
        return await pool_or_only(call.service.reads, body.pool)
    row = await call.service.reads.reservation(body.reservation_id)
    if row is None:
        raise not_found(
            "reservation", body.reservation_id, hint="`teo reservations` lists those there are"
        )
    return row.pool


async def list_executions(call: Call) -> Response:
    """Executions, newest first."""
    query = call.query_as(ExecutionsQuery)
    which = ExecutionFilter(
        pool=query.pool,
        statuses=words(query.status),
        verdicts=words(query.verdict),
        owner=query.owner,
    )
    return await list_answer(
        call, Execution, lambda part: call.service.reads.executions(which, part)
    )


async def get_execution(call: Call) -> Response:
    """One execution, now or once it has started or finished."""
    query = call.query_as(ExecutionQuery)

    def is_reached(row: ExecutionRow) -> bool:
        if query.until == "finished":
            return row.finished_at is not None
        return row.started_at is not None or row.finished_at is not None

    row = await until(
        call, call.path("id"), lambda: execution_of(call), is_reached, wait_s=query.wait_s
    )
    return json_response(Execution.model_validate(row))


async def cancel_execution(call: Call) -> Response:
    """End an execution: at once if it waits, by way of its worker if it runs."""
    row = await execution_of(call)
    reason = call.query_as(CancelQuery).reason
    command = CancelExecution(execution_id=row.id, reason=reason)
    return await command_answer(call, row.pool, command, _reader(call))


async def execution_of(call: Call) -> ExecutionRow:
    """Return the execution the path names. Raises the 404 it deserves."""
    row = await call.service.reads.execution(call.path("id"))
    if row is None:
        raise not_found("execution", call.path("id"), hint="`teo status` lists the latest")
    return row


def attempt_of(row: ExecutionRow, attempt: int | None) -> int | None:
    """Return `attempt`. Raises the 404 that one which was never made deserves."""
    if attempt is not None and all(each.number != attempt for each in row.attempts):
        made = ", ".join(str(each.number) for each in row.attempts) or "none yet"
        detail = f"execution {row.id} has no attempt {attempt}; attempts made: {made}"
        raise Problem(404, "no_such_attempt", detail)
    return attempt


def _reader(call: Call) -> Callable[[str], Awaitable[Execution | None]]:
    async def read(subject_id: str) -> Execution | None:
        row = await call.service.reads.execution(subject_id)
        return None if row is None else Execution.model_validate(row)

    return read


_TAG = "Executions"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/executions",
        name="submitExecution",
        summary="Submit a test run",
        handler=submit_execution,
        tag=_TAG,
        role=Role.user,
        body=ExecutionBody,
        answer=Execution,
        status=201,
        is_command=True,
        problems=(404, 409, 422),
    ),
    Operation(
        method="GET",
        path="/v1/executions",
        name="listExecutions",
        summary="List executions",
        handler=list_executions,
        tag=_TAG,
        query=ExecutionsQuery,
        answer=Items[Execution],
        problems=(422,),
    ),
    Operation(
        method="GET",
        path="/v1/executions/{id}",
        name="getExecution",
        summary="Look at an execution, or wait for it",
        handler=get_execution,
        tag=_TAG,
        query=ExecutionQuery,
        answer=Execution,
        problems=(404, 429, 503),
    ),
    Operation(
        method="DELETE",
        path="/v1/executions/{id}",
        name="cancelExecution",
        summary="Cancel an execution",
        handler=cancel_execution,
        tag=_TAG,
        role=Role.user,
        query=CancelQuery,
        answer=Execution,
        is_command=True,
        problems=(404, 409),
    ),
)
