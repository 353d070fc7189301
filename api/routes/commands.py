"""Commands: what became of one."""

from starlette.responses import Response

from api.call import Call
from api.encoding import json_response, position_text
from api.models.answers import CommandOutcome
from api.operations import Operation
from api.problems import Problem
from events.log import Position


async def get_command(call: Call) -> Response:
    """The outcome of a command, once it is known."""
    command_id = call.path("id")
    row = await call.service.reads.command(command_id)
    if row is None:
        detail = (
            f"command {command_id} has no outcome here: it is not decided yet, or was never sent; "
            "ask again in a moment"
        )
        raise Problem(404, "no_such_command", detail)
    return json_response(
        CommandOutcome(
            id=row.id,
            status=row.status,
            type=row.type,
            subject_id=row.subject_id,
            code=row.code,
            reason=row.reason,
            at=row.at,
            position=position_text(Position(row.partition, row.offset)),
        )
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/commands/{id}",
        name="getCommand",
        summary="Look at the outcome of a command",
        handler=get_command,
        tag="Commands",
        answer=CommandOutcome,
        problems=(404,),
    ),
)
