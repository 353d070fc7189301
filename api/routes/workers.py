"""Workers: who runs tests, and in which state."""

from starlette.responses import Response

from api.answering import list_answer
from api.call import Call
from api.models.answers import Items, Worker
from api.models.queries import WorkersQuery
from api.operations import Operation


async def list_workers(call: Call) -> Response:
    """Workers, by pool and id."""
    pool = call.query_as(WorkersQuery).pool
    return await list_answer(call, Worker, lambda part: call.service.reads.workers(pool, part))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/workers",
        name="listWorkers",
        summary="List workers",
        handler=list_workers,
        tag="Workers",
        query=WorkersQuery,
        answer=Items[Worker],
        problems=(422,),
    ),
)
