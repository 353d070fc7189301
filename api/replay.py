"""Puts a dead letter back where it came from. Never changes what it holds, never writes a fact."""

from dataclasses import dataclass
from typing import Any

import structlog

from api.limits import LETTER_OUTCOME_WAIT_S
from api.problems import Problem
from api.service import Service
from events.codec import decode_command, decode_report, decode_task
from events.commands import SubmitExecution
from events.dlq import DeadLetter
from events.errors import LogUnavailable, RecordTooBig, Undecodable
from events.letters import REPLAYED_FROM
from events.log import Outgoing, Position
from events.message import Message
from events.shared import CommandMeta
from projections.commands import SET_ASIDE
from projections.rows import CommandRow

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """What became of a letter. `at` None: it was not put back again, its command is decided."""

    at: Position | None
    message: Any
    outcome: CommandRow | None

    @property
    def execution_id(self) -> str | None:
        """Return the execution that it asks for."""
        body = self.message.body if isinstance(self.message, Message) else None
        return body.execution_id if isinstance(body, SubmitExecution) else None

    @property
    def command_id(self) -> str | None:
        """Return the id of the command it holds."""
        meta = self.message.meta if isinstance(self.message, Message) else None
        return meta.command_id if isinstance(meta, CommandMeta) else None


def decoded(service: Service, letter: DeadLetter) -> Message[Any, Any]:
    """Return what the letter holds, as the reader of its topic would take it.

    Raises `Undecodable` if that still cannot be done.
    """
    topics = service.deps.topics
    decoders = {
        topics.commands: decode_command,
        topics.reports: decode_report,
        topics.tasks: decode_task,
    }
    decode = decoders.get(letter.source_topic)
    if decode is None:
        raise Undecodable(f"nobody takes anything back on {letter.source_topic}")
    message: Message[Any, Any] = decode(letter.value)
    return message


def refuse_what_cannot_go_back(service: Service, letter: DeadLetter, *, is_forced: bool) -> None:
    """Raise the 409 of a letter that may not, or would not, be taken where it came from.

    Facts are written by schedulers alone, so the journal takes nothing back, forced or not.
    """
    topics = service.deps.topics
    if letter.source_topic not in (topics.commands, topics.reports, topics.tasks):
        detail = (
            f"it comes from {letter.source_topic}: only commands, reports and tasks are put back; "
            "`teo dlq discard` settles it"
        )
        raise Problem(409, "letter_not_replayable", detail)
    if letter.whole_bytes is not None:
        detail = (
            f"it holds only the first {len(letter.value or b'')} of {letter.whole_bytes} bytes, "
            "so nothing that can be put back; the whole record stands on "
            f"{letter.source_topic}, partition {letter.source_partition}, offset "
            f"{letter.source_offset}, as long as that topic keeps it: have its sender send less, "
            "then discard this letter"
        )
        raise Problem(409, "letter_cut", detail)
    if is_forced:
        return
    try:
        decoded(service, letter)
    except Undecodable as error:
        detail = (
            f"it still cannot be read ({error}), so it would only come back; replay it once a "
            "version that reads it runs, discard it, or put it back all the same with --force"
        )
        raise Problem(409, "letter_undecodable", detail) from error


async def put_back(service: Service, letter_id: str, letter: DeadLetter) -> PutBack:
    """Append what the letter holds to its source, with its own id; return what became of it.

    A command whose outcome is known is not put back again: so it counts once also long after
    the scheduler has forgotten it. Raises the 503 after which the replay is to be repeated.
    """
    try:
        message: Any = decoded(service, letter)
    except Undecodable:
        message = None
    command_id = PutBack(at=None, message=message, outcome=None).command_id
    before = None if command_id is None else await service.reads.command(command_id)
    if before is not None and before.status != SET_ASIDE:
        return PutBack(at=None, message=message, outcome=before)
    record = Outgoing(
        topic=letter.source_topic,
        key=letter.key,
        value=letter.value,
        headers={**letter.headers, REPLAYED_FROM: letter_id.encode()},
        partition=letter.source_partition,
    )
    try:
        (at,) = await service.deps.log.append([record])
    except RecordTooBig as error:
        detail = (
            f"the replay of {letter_id} is noted, but {letter.source_topic} takes no record as big "
            f"as what it holds ({error}); `teo dlq discard` settles it"
        )
        raise Problem(409, "letter_not_replayable", detail) from error
    except LogUnavailable as error:
        detail = (
            f"the replay of {letter_id} is noted, but the log did not take back what it holds "
            f"({error}); repeat the replay: it cannot count twice"
        )
        headers = {"Retry-After": "2"}
        raise Problem(503, "letter_not_put_back", detail, headers=headers) from error
    log.info("letter.replayed", letter_id=letter_id, topic=letter.source_topic, position=str(at))
    outcome = None
    if command_id is not None:
        outcome = await service.reads.wait_for_command(
            command_id,
            wait_s=LETTER_OUTCOME_WAIT_S,
            is_wanted=lambda row: before is None or row.offset != before.offset,
        )
    return PutBack(at=at, message=message, outcome=outcome)
