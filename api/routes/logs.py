"""Logs: the output of an execution, fetched in parts or followed."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.responses import Response, StreamingResponse

from api.call import Call
from api.encoding import json_response
from api.limits import LOG_LINES_LIMIT_DEFAULT, LOG_LINES_LIMIT_MAX, LOG_TEXT_LINES_MAX
from api.log_fetch import LogFetch, Part
from api.log_follow import LogFollow
from api.log_lines import Lines, Sieve
from api.models.answers import LogLine, LogPart
from api.models.queries import LogsQuery
from api.operations import Operation
from api.problems import Problem
from api.routes.executions import attempt_of, execution_of
from api.sse import MEDIA_TYPE, EventStream
from projections.rows import ExecutionRow

_EVENT_ID = re.compile(r"(\d{1,6})\.(\d{1,12})")


async def get_logs(call: Call) -> Response:
    """The output: as text, as JSON in parts, or followed as server-sent events."""
    query = call.query_as(LogsQuery)
    row = await execution_of(call)
    await call.service.log_ready()
    accept = call.request.headers.get("accept", "")
    if MEDIA_TYPE in accept:
        return await _follow(call, row, query)
    attempt_of(row, query.attempt)
    number = query.attempt or (row.attempts[-1].number if row.attempts else 0)
    made = next((each for each in row.attempts if each.number == number), None)
    is_text = "text/plain" in accept
    if made is None:
        if is_text:
            return Response(b"", media_type="text/plain; charset=utf-8")
        empty = LogPart(
            attempt=0,
            lines=[],
            next_line=query.since_line,
            is_complete=row.finished_at is not None,
        )
        return json_response(empty)
    fetch = LogFetch(call.service, row, made)
    if is_text:
        text = _text(fetch, since_line=query.since_line, limit=query.limit or LOG_TEXT_LINES_MAX)
        return StreamingResponse(text, media_type="text/plain; charset=utf-8")
    limit = min(query.limit or LOG_LINES_LIMIT_DEFAULT, LOG_LINES_LIMIT_MAX)
    part = await fetch.part(since_line=query.since_line, limit=limit)
    return json_response(_json(number, part))


def _json(attempt: int, part: Part) -> LogPart:
    return LogPart(
        attempt=attempt,
        lines=[line for lines in part.found for line in _numbered(lines)],
        next_line=part.next_line,
        is_complete=part.is_complete,
    )


def _numbered(lines: Lines) -> Sequence[LogLine]:
    stderr = frozenset(lines.stderr)
    return [
        LogLine(
            n=lines.first_line + index,
            stream="stderr" if index in stderr else "stdout",
            text=text,
        )
        for index, text in enumerate(lines.lines)
    ]


async def _text(fetch: LogFetch, *, since_line: int, limit: int) -> AsyncGenerator[bytes, None]:
    left = limit
    async with aclosing(fetch.lines(since_line=since_line)) as parts:
        async for lines in parts:
            taken = lines.lines[:left]
            yield "".join(f"{line}\n" for line in taken).encode(errors="replace")
            left -= len(taken)
            if left <= 0:
                return


async def _follow(call: Call, row: ExecutionRow, query: LogsQuery) -> Response:
    service = call.service
    service.streams.admit(call.actor.actor)
    sieve = Sieve(query.attempt or 1, query.since_line)
    last = call.request.headers.get("last-event-id", "")
    if last:
        found = _EVENT_ID.fullmatch(last)
        if found is None or (query.attempt is not None and int(found[1]) != query.attempt):
            detail = f"Last-Event-ID {last!r} is none of this stream; leave it out to begin anew"
            raise Problem(422, "invalid_last_event_id", detail)
        sieve = Sieve(int(found[1]), int(found[2]) + 1)
    # An attempt to come may be asked for, one that can never be may not.
    if row.finished_at is not None:
        attempt_of(row, query.attempt)
    follow = LogFollow(
        row,
        sieve,
        is_single=query.attempt is not None,
        reads=service.reads,
        tail=service.tail,
        search=service.search,
        hub=service.hub,
        store=service.deps.artifacts,
        keep_alive_s=service.deps.settings.sse_keep_alive_s,
    )
    place = service.streams.place(call.actor.actor)
    return EventStream(follow.frames(), place=place, stopping=service.deps.stopping)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/executions/{id}/logs",
        name="getLogs",
        summary="Read or follow the output",
        handler=get_logs,
        tag="Logs",
        query=LogsQuery,
        answer=LogPart,
        media={
            "text/plain": "The lines.",
            MEDIA_TYPE: "`event: lines` with `id: ATTEMPT.LAST_LINE` and `data: {attempt, "
            "first_line, lines, stderr}`; `attempt`, `requeued`, `gap`, and at the end `end`; "
            "`Last-Event-ID` resumes.",
        },
        problems=(404, 422, 429, 503),
    ),
)
