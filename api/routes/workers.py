"""Workers: who runs tests and in which state, having one leave, and having one back."""

from starlette.responses import Response

from api.answering import command_answer, list_answer
from api.auth.principal import Role
from api.call import Call
from api.encoding import json_response
from api.models.answers import Items, Worker
from api.models.queries import WorkersQuery
from api.models.requests import DrainBody, ResumeBody
from api.operations import Operation
from api.problems import not_found
from api.routes.benches import words
from events.commands import Command, DrainWorker, ResumeWorker
from projections.rows import WorkerFilter, WorkerRow


async def list_workers(call: Call) -> Response:
    """Workers, by pool and id."""
    query = call.query_as(WorkersQuery)
    which = WorkerFilter(pool=query.pool, states=words(query.state))
    return await list_answer(call, Worker, lambda part: call.service.reads.workers(which, part))


async def get_worker(call: Call) -> Response:
    """One worker."""
    return json_response(Worker.model_validate(await _worker(call)))


async def drain(call: Call) -> Response:
    """Have a worker take no new attempts, and leave once it runs none."""
    reason = call.body_as(DrainBody).reason
    return await _change(call, DrainWorker(worker=call.path("worker"), reason=reason))


async def resume(call: Call) -> Response:
    """Let a worker have attempts again that was suspended for its own faults."""
    reason = call.body_as(ResumeBody).reason
    return await _change(call, ResumeWorker(worker=call.path("worker"), reason=reason))


async def _change(call: Call, command: Command) -> Response:
    await _worker(call)

    async def read(_: str) -> Worker:
        return Worker.model_validate(await _worker(call))

    return await command_answer(call, call.path("pool"), command, read)


async def _worker(call: Call) -> WorkerRow:
    pool, name = call.path("pool"), call.path("worker")
    row = await call.service.reads.worker(pool, name)
    if row is None:
        hint = "`teo worker list` shows what there is"
        raise not_found("worker", f"{name} in pool {pool}", hint=hint)
    return row


_TAG = "Workers"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/workers",
        name="listWorkers",
        summary="List workers",
        handler=list_workers,
        tag=_TAG,
        query=WorkersQuery,
        answer=Items[Worker],
        problems=(422,),
    ),
    Operation(
        method="GET",
        path="/v1/pools/{pool}/workers/{worker}",
        name="getWorker",
        summary="Look at a worker",
        handler=get_worker,
        tag=_TAG,
        answer=Worker,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/pools/{pool}/workers/{worker}/drain",
        name="drainWorker",
        summary="Have a worker leave once it runs nothing",
        handler=drain,
        tag=_TAG,
        role=Role.operator,
        body=DrainBody,
        is_body_optional=True,
        answer=Worker,
        is_command=True,
        problems=(404, 422),
    ),
    Operation(
        method="POST",
        path="/v1/pools/{pool}/workers/{worker}/resume",
        name="resumeWorker",
        summary="Let a suspended worker have attempts again",
        handler=resume,
        tag=_TAG,
        role=Role.operator,
        body=ResumeBody,
        is_body_optional=True,
        answer=Worker,
        is_command=True,
        problems=(404, 409, 422),
    ),
)
