"""The dead letter of an execution that the lab could not run. Pure."""

from dataclasses import replace

from events.codec import encode
from events.commands import SubmitExecution
from events.dlq import DeadLetter
from events.facts import ExecutionFinished
from events.ids import derived_id
from events.message import Message
from events.shared import CommandMeta, EventMeta
from processors.scheduler.state import Execution

FOUND_BY = "scheduler"


def letter_of(
    execution: Execution, event: ExecutionFinished, meta: EventMeta, partition: int
) -> DeadLetter | None:
    """Return what operators find of an execution that ended as the lab's error; None for others.

    It holds the command that would run it once more, with the ids of that one: replayed twice, it
    still runs once. It waits for a bench as long as it takes, in no reservation: that is over.
    """
    if event.verdict != "error":
        return None
    at = meta.occurred_at
    command = SubmitExecution(
        execution_id="exe-" + derived_id(at, f"replay/{execution.id}").replace("-", ""),
        selector=execution.selector,
        priority=execution.priority,
        retries=execution.retries,
        run=execution.run,
        retries_on_failure=execution.retries_on_failure,
    )
    command_meta = CommandMeta(
        command_id=derived_id(at, f"replay-command/{execution.id}"),
        pool=meta.pool,
        actor=execution.owner,
        roles=(),
        issued_at=at,
        correlation_id=meta.correlation_id,
        traceparent=meta.traceparent,
        request_hash="",
    )
    headers = {
        "ce_type": b"SubmitExecution",
        "ce_id": command_meta.command_id.encode(),
        "traceparent": meta.traceparent.encode(),
    }
    return DeadLetter(
        source_topic="",
        source_partition=partition,
        source_offset=meta.seq,
        source_timestamp=execution.submitted_at,
        key=meta.pool.encode(),
        value=encode(Message(command_meta, command)),
        headers=headers,
        error=f"{event.code}: {event.reason}",
        stack="",
        found_by=FOUND_BY,
        found_at=at,
        kind="execution",
        pool=meta.pool,
        execution_id=execution.id,
    )


def on_topic(letter: DeadLetter, commands: str) -> DeadLetter:
    """Return `letter` with the name of the topic that its command belongs on."""
    return replace(letter, source_topic=commands)
