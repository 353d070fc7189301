"""Benches: looking at them, and taking them out of placement and back."""

from starlette.responses import Response

from api.answering import command_answer, list_answer
from api.auth.principal import Role
from api.call import Call
from api.encoding import json_response
from api.models.answers import Bench, Items
from api.models.queries import BenchesQuery
from api.models.requests import QuarantineBody, RestoreBody
from api.operations import Operation
from api.problems import not_found
from events.commands import Command, QuarantineBench, RestoreBench
from events.selector import parse
from projections.rows import BenchFilter, BenchRow


async def list_benches(call: Call) -> Response:
    """Benches, by pool and name."""
    query = call.query_as(BenchesQuery)
    which = BenchFilter(pool=query.pool, states=words(query.state), selector=parse(query.selector))
    return await list_answer(call, Bench, lambda part: call.service.reads.benches(which, part))


def words(text: str) -> tuple[str, ...]:
    """Return the words of a filter."""
    return tuple(text.split(",")) if text else ()


async def get_bench(call: Call) -> Response:
    """One bench."""
    return json_response(Bench.model_validate(await _bench(call)))


async def quarantine(call: Call) -> Response:
    """Take a bench out of placement; who holds it keeps it."""
    reason = call.body_as(QuarantineBody).reason
    return await _change(call, QuarantineBench(bench=call.path("name"), reason=reason))


async def restore(call: Call) -> Response:
    """Give a quarantined bench back to placement."""
    return await _change(call, RestoreBench(bench=call.path("name")))


async def _bench(call: Call) -> BenchRow:
    pool, name = call.path("pool"), call.path("name")
    row = await call.service.reads.bench(pool, name)
    if row is None:
        hint = "`teo bench list` shows what there is"
        raise not_found("bench", f"{name} in pool {pool}", hint=hint)
    return row


async def _change(call: Call, command: Command) -> Response:
    await _bench(call)

    async def read(_: str) -> Bench:
        return Bench.model_validate(await _bench(call))

    return await command_answer(call, call.path("pool"), command, read)


_TAG = "Pools and benches"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/benches",
        name="listBenches",
        summary="List benches",
        handler=list_benches,
        tag=_TAG,
        query=BenchesQuery,
        answer=Items[Bench],
        problems=(422,),
    ),
    Operation(
        method="GET",
        path="/v1/pools/{pool}/benches/{name}",
        name="getBench",
        summary="Look at a bench",
        handler=get_bench,
        tag=_TAG,
        answer=Bench,
        problems=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/pools/{pool}/benches/{name}/quarantine",
        name="quarantineBench",
        summary="Take a bench out of placement",
        handler=quarantine,
        tag=_TAG,
        role=Role.operator,
        body=QuarantineBody,
        is_body_optional=True,
        answer=Bench,
        is_command=True,
        problems=(404, 422),
    ),
    Operation(
        method="POST",
        path="/v1/pools/{pool}/benches/{name}/restore",
        name="restoreBench",
        summary="Give a bench back to placement",
        handler=restore,
        tag=_TAG,
        role=Role.operator,
        body=RestoreBody,
        is_body_optional=True,
        answer=Bench,
        is_command=True,
        problems=(404, 409, 422),
    ),
)
