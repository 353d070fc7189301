"""Who the token of a request stands for."""

from starlette.responses import Response

from api.call import Call
from api.encoding import json_response
from api.models.answers import WhoAmI
from api.operations import Operation


async def whoami(call: Call) -> Response:
    """The actor and its roles."""
    return json_response(WhoAmI(actor=call.actor.actor, roles=list(call.actor.roles)))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/whoami",
        name="whoami",
        summary="See who the token stands for",
        handler=whoami,
        tag="Commands",
        answer=WhoAmI,
    ),
)
