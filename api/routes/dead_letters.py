"""Dead letters: looking at them, putting them back, discarding them."""

from typing import Any

from starlette.responses import Response

from api.answering import command_answer, list_answer
from api.auth.principal import Role
from api.call import Call
from api.encoding import json_response, parse_vector, vector_text
from api.gateway import Undecided, headers_of
from api.hub import plain
from api.letter_box import Entry, Found
from api.limits import LETTER_HEX_BYTES_MAX
from api.models.answers import DeadLetter, Items, ReplayedLetter, WholeDeadLetter
from api.models.queries import DeadLettersQuery
from api.models.requests import DiscardBody, ReplayBody
from api.operations import Operation
from api.problems import Problem, not_found
from api.replay import PutBack, decoded, put_back, refuse_what_cannot_go_back
from api.routes.benches import words
from events import dlq
from events.commands import DiscardDeadLetter, ReplayDeadLetter
from events.errors import Undecodable
from events.letters import position_of
from projections import cursors
from projections.rows import InvalidCursor, Page, SettledRow, Slice

_CURSOR = "dead letters"


async def list_letters(call: Call) -> Response:
    """Dead letters, newest first."""
    query = call.query_as(DeadLettersQuery)
    kinds, statuses = words(query.kind), words(query.status)

    async def is_wanted(entry: Entry) -> bool:
        if query.pool is not None and entry.pool != query.pool:
            return False
        if kinds and entry.kind not in kinds:
            return False
        settled = await call.service.reads.settled([entry.id])
        return not statuses or _status(settled.get(entry.id)) in statuses

    async def fetch(part: Slice) -> Page[dict[str, Any]]:
        found = await call.service.letters.part(
            _before(part.cursor), limit=part.limit, is_wanted=is_wanted
        )
        settled = await call.service.reads.settled([entry.id for entry in found.entries])
        rows = [_row(entry, settled.get(entry.id)) for entry in found.entries]
        if not found.before:
            return Page(rows)
        return Page(rows, cursors.encode(_CURSOR, (vector_text(found.before),)))

    return await list_answer(call, DeadLetter, fetch)


def _before(cursor: str | None) -> dict[int, int] | None:
    if cursor is None:
        return None
    (text,) = cursors.decode(_CURSOR, cursor, (str,))
    vector = parse_vector(str(text))
    if vector is None:
        raise InvalidCursor("this is no cursor of a list of dead letters")
    return dict(vector)


async def get_letter(call: Call) -> Response:
    """One dead letter with all it holds."""
    return json_response(await _whole(call, await _letter(call)))


async def replay(call: Call) -> Response:
    """Note who replays it and why, then put back what it holds, unchanged."""
    found = await _letter(call)
    identity, letter = found.entry.id, _held(found)
    body = call.body_as(ReplayBody)
    refuse_what_cannot_go_back(call.service, letter, is_forced=body.force)
    command = ReplayDeadLetter(letter_id=identity, reason=body.reason)
    outcome = await call.service.gateway.ask(call, found.entry.pool, command)
    if isinstance(outcome, Undecided):
        detail = (
            f"it is not known yet whether the replay of {identity} is noted, so nothing was put "
            "back; repeat it with the same Idempotency-Key"
        )
        headers = {"Retry-After": "2", "TEO-Command-Id": outcome.command_id}
        problem = Problem(503, "replay_undecided", detail, headers=headers)
        problem.command_id = outcome.command_id
        raise problem
    done = await put_back(call.service, identity, letter)
    headers = headers_of(outcome.command_id, outcome.position)
    return json_response(await _replayed(call, found, done), headers=headers)


async def discard(call: Call) -> Response:
    """Note who settles it without replaying it, and why."""
    found = await _letter(call)
    identity = found.entry.id
    command = DiscardDeadLetter(letter_id=identity, reason=call.body_as(DiscardBody).reason)

    async def read(_: str) -> DeadLetter:
        settled = await call.service.reads.settled([identity])
        return DeadLetter.model_validate(_row(found.entry, settled.get(identity)))

    return await command_answer(call, found.entry.pool, command, read)


async def _letter(call: Call) -> Found:
    identity = call.path("id")
    found = await call.service.letters.letter(identity)
    if found is None:
        why = "letters go after their retention"
        if position_of(identity) is None:
            why = "an id is partition-offset, as in 3-17"
        hint = f"{why}; see those that are kept with `teo dlq list --status ''`"
        raise not_found("dead_letter", identity, hint=hint)
    return found


def _held(found: Found) -> dlq.DeadLetter:
    if found.letter is None:
        detail = f"{found.entry.error}; `teo dlq discard` settles it"
        raise Problem(409, "letter_not_replayable", detail)
    return found.letter


def _status(settled: SettledRow | None) -> str:
    return "open" if settled is None else settled.status


def _row(entry: Entry, settled: SettledRow | None) -> dict[str, Any]:
    return {
        "id": entry.id,
        "kind": entry.kind,
        "status": _status(settled),
        "pool": entry.pool,
        "execution_id": entry.execution_id,
        "type": entry.type,
        "error": entry.error,
        "found_at": entry.found_at,
        "found_by": entry.found_by,
        "source_topic": entry.source_topic,
        "source_partition": entry.source_partition,
        "source_offset": entry.source_offset,
        "source_at": entry.source_at,
        "size_bytes": entry.size_bytes,
        "is_cut": entry.is_cut,
        "settled_by": settled.actor if settled else None,
        "settled_at": settled.at if settled else None,
        "settled_reason": settled.reason if settled else "",
        "replays": settled.replays if settled else 0,
    }


async def _whole(call: Call, found: Found) -> WholeDeadLetter:
    settled = await call.service.reads.settled([found.entry.id])
    row = _row(found.entry, settled.get(found.entry.id))
    held = found.letter
    value = b"" if held is None else held.value or b""
    message, undecodable = None, found.entry.error
    if held is not None:
        try:
            message, undecodable = decoded(call.service, held), ""
        except Undecodable as error:
            undecodable = str(error)
    return WholeDeadLetter(
        **row,
        held_bytes=found.entry.size_bytes if held is None else len(value),
        sha256=found.entry.sha256,
        stack="" if held is None else held.stack,
        key=None if held is None or held.key is None else _text(held.key),
        headers={} if held is None else {k: _text(v) for k, v in sorted(held.headers.items())},
        value=None if message is None else plain(message),
        undecodable=undecodable,
        value_hex="" if message is not None else _raw(call, value).hex(),
    )


def _raw(call: Call, value: bytes) -> bytes:
    """Return the bytes of what nobody can read, to who may put it back: it may hold a secret."""
    return value[:LETTER_HEX_BYTES_MAX] if call.actor.may(Role.operator) else b""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


async def _replayed(call: Call, found: Found, done: PutBack) -> ReplayedLetter:
    settled = await call.service.reads.settled([found.entry.id])
    outcome = done.outcome
    return ReplayedLetter.model_validate(
        {
            **_row(found.entry, settled.get(found.entry.id)),
            "is_put_back": done.at is not None,
            "put_back_offset": None if done.at is None else done.at.offset,
            "command_id": done.command_id,
            "outcome": None if outcome is None else outcome.status,
            "outcome_reason": "" if outcome is None else outcome.reason,
            "new_execution_id": done.execution_id,
        }
    )


_TAG = "Dead letters"

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/dead-letters",
        name="listDeadLetters",
        summary="List dead letters",
        handler=list_letters,
        tag=_TAG,
        query=DeadLettersQuery,
        answer=Items[DeadLetter],
        problems=(422, 503),
    ),
    Operation(
        method="GET",
        path="/v1/dead-letters/{id}",
        name="getDeadLetter",
        summary="Look at a dead letter",
        handler=get_letter,
        tag=_TAG,
        answer=WholeDeadLetter,
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/dead-letters/{id}/replay",
        name="replayDeadLetter",
        summary="Put a dead letter back",
        handler=replay,
        tag=_TAG,
        role=Role.operator,
        body=ReplayBody,
        is_body_optional=True,
        answer=ReplayedLetter,
        is_command=True,
        problems=(404, 409, 422, 503),
    ),
    Operation(
        method="POST",
        path="/v1/dead-letters/{id}/discard",
        name="discardDeadLetter",
        summary="Settle a dead letter without replaying it",
        handler=discard,
        tag=_TAG,
        role=Role.operator,
        body=DiscardBody,
        answer=DeadLetter,
        is_command=True,
        problems=(404, 422, 503),
    ),
)
