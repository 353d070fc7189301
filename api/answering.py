"""How routes answer: lists, long polls, and commands with the thing they were about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from api.call import Call
from api.encoding import json_response
from api.gateway import Undecided, headers_of
from api.limits import LONG_POLL_S_MAX
from api.models.answers import Pending
from api.models.queries import ListQuery
from api.problems import Problem
from events.commands import Command
from projections.rows import InvalidCursor, Page, Slice

RowT = TypeVar("RowT")


async def list_answer(
    call: Call,
    answer: type[BaseModel],
    fetch: Callable[[Slice], Awaitable[Page[Any]]],
) -> Response:
    """Answer with a part of a list. Raises the 422 a foreign cursor deserves."""
    query = call.query_as(ListQuery)
    try:
        page = await fetch(Slice(limit=query.limit, cursor=query.cursor))
    except InvalidCursor as error:
        detail = f"cursor {query.cursor!r} is not one of this list; start again without it"
        raise Problem(422, "invalid_cursor", detail) from error
    items = [answer.model_validate(row).model_dump(by_alias=True) for row in page.items]
    return json_response({"items": items, "next_cursor": page.next_cursor})


async def command_answer(
    call: Call,
    pool: str,
    command: Command,
    read: Callable[[str], Awaitable[BaseModel | Mapping[str, Any] | None]],
    *,
    status: int = 200,
    location: str | None = None,
) -> Response:
    """Send a command; answer with what it was about, as it stands at the command's position.

    `read` gets the id of the subject; `location` is the folder of such things. 202 if the outcome
    takes longer.
    """
    outcome = await call.service.gateway.ask(call, pool, command)
    if isinstance(outcome, Undecided):
        headers = {"TEO-Command-Id": outcome.command_id}
        return pending(outcome.command_id, headers, detail=outcome.detail)
    headers = headers_of(outcome.command_id, outcome.position)
    thing = await read(outcome.subject_id)
    if thing is None:
        return pending(outcome.command_id, headers)
    if location is not None:
        headers["Location"] = f"{location}/{outcome.subject_id}"
    return json_response(thing, status=status, headers=headers)


def pending(command_id: str, headers: Mapping[str, str], *, detail: str = "") -> Response:
    """Return the 202 that says where to look for the outcome, and why it may take long."""
    href = f"/v1/commands/{command_id}"
    body = Pending(command_id=command_id, href=href, detail=detail)
    return json_response(body, status=202, headers={**headers, "Location": href})


async def until(
    call: Call,
    subject_id: str,
    read: Callable[[], Awaitable[RowT]],
    is_reached: Callable[[RowT], bool],
    *,
    wait_s: float,
) -> RowT:
    """Return what `read` gives once `is_reached` holds, or after `wait_s`."""
    until_s = asyncio.get_running_loop().time() + min(wait_s, LONG_POLL_S_MAX)
    actor = call.actor.actor
    if wait_s > 0:
        call.service.waits.admit(actor)
    with call.service.waits.place(actor), call.service.hub.waiting(subject_id) as waiter:
        while True:
            row = await read()
            left_s = until_s - asyncio.get_running_loop().time()
            if left_s <= 0 or is_reached(row) or call.service.deps.stopping.is_set():
                return row
            await waiter.wait(left_s)


def new_subject(call: Call, kind: str) -> str:
    """Return a fresh id of a thing: `res-…` or `exe-…`."""
    return f"{kind}-{call.service.deps.new_id().hex}"
