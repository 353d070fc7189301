"""Decisions and dead letters as records to write. Never decides anything."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from events.codec import encode, type_name
from events.dlq import DeadLetter
from events.letters import dead_letter, pool_of
from events.log import Outgoing, Record
from events.message import CommandMessage, EventMessage, ReportMessage, TaskMessage
from events.shared import CommandMeta
from events.topics import Topics
from processors.saga.letters import FOUND_BY, on_topic
from processors.scheduler.decision import Decision

_ID = re.compile(r"[\x21-\x7e]{1,200}")


def records_of(topics: Topics, partition: int, decisions: Iterable[Decision]) -> Iterator[Outgoing]:
    """Yield all records of `decisions`, in order; facts go to the journal of `partition`."""
    for decision in decisions:
        for event in decision.events:
            yield Outgoing(
                topic=topics.events,
                key=event.meta.pool.encode(),
                value=encode(event),
                headers=_headers(event, event.meta.event_id),
                partition=partition,
            )
        for task in decision.tasks:
            yield Outgoing(
                topic=topics.tasks,
                key=task.meta.worker.encode(),
                value=encode(task),
                headers=_headers(task, task.meta.task_id),
            )
        for result in decision.results:
            headers = {
                "ce_type": b"ExecutionResult",
                "ce_id": result.result_id.encode(),
                "traceparent": result.traceparent.encode(),
            }
            key = result.execution_id.encode()
            yield Outgoing(topic=topics.results, key=key, value=encode(result), headers=headers)
        for letter in decision.letters:
            yield _letter(topics, on_topic(letter, topics.commands))


def _headers(message: EventMessage | TaskMessage, message_id: str) -> Mapping[str, bytes]:
    return {
        "ce_type": type_name(message).encode(),
        "ce_id": message_id.encode(),
        "traceparent": message.meta.traceparent.encode(),
    }


def set_aside_record(
    topics: Topics, record: Record, error: BaseException, now: datetime
) -> Outgoing:
    """Return the record that keeps `record` with what was wrong."""
    pool = pool_of(record)
    return _letter(topics, dead_letter(record, error, pool=pool, found_by=FOUND_BY, found_at=now))


def command_id_of(
    record: Record, message: CommandMessage | ReportMessage | None, topics: Topics
) -> str:
    """Return the id of the command that `record` is; empty: it is none, or none that says so.

    What cannot be read may still name its id in a header, as everything does that the API sends.
    """
    if message is not None:
        return message.meta.command_id if isinstance(message.meta, CommandMeta) else ""
    if record.topic != topics.commands:
        return ""
    named = record.headers.get("ce_id", b"").decode("ascii", "replace")
    return named if _ID.fullmatch(named) else ""


def _letter(topics: Topics, letter: DeadLetter) -> Outgoing:
    headers = {"ce_type": b"DeadLetter"}
    return Outgoing(topic=topics.dlq, key=letter.key, value=encode(letter), headers=headers)
