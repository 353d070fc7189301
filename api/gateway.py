"""Publishes commands and waits for their outcome on the log. Never decides anything."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid5

import structlog
from opentelemetry import trace

from api.call import Call
from api.deps import Deps
from api.limits import (
    IDEMPOTENCY_WINDOW_S,
    KEY_GENERATIONS_MAX,
    POSITION_WAIT_S,
    PUBLISH_PAUSE_S_MAX,
    PUBLISH_PAUSE_S_MIN,
    UNSERVED_WAIT_S,
)
from api.partitions import PartitionWatch
from api.problems import Problem, status_of_rejection
from events.codec import encode
from events.commands import Command
from events.errors import LogUnavailable, RecordTooBig
from events.log import Outgoing, Position
from events.message import Message
from events.shared import CommandMeta
from projections.rows import CommandRow

log = structlog.get_logger()

_KEYS = UUID("6c0f3c5e-8a64-5d0e-9f3a-3b1d6a2b7c41")
"""Namespace of command ids made from idempotency keys. Never changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A command that was decided and accepted."""

    command_id: str
    subject_id: str
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A command that is on the log and whose outcome is not known yet."""

    command_id: str
    detail: str = ""
    """Why that may take long, if it is known."""


Outcome = Accepted | Undecided


def command_id_of(actor: str, key: str, *, after: str = "") -> str:
    """Return the id of the command that `actor` sends under `key`.

    `after` is the id of an earlier command under the same key whose window is over: so a key may
    be used again after the window, and still no two commands share an id.
    """
    return str(uuid5(_KEYS, f"{len(actor)}:{actor}{len(key)}:{key}{after}"))


class Gateway:
    """From a command to its outcome."""

    def __init__(self, deps: Deps, partitions: PartitionWatch) -> None:
        self._deps = deps
        self._partitions = partitions

    async def ask(self, call: Call, pool: str, command: Command) -> Outcome:
        """Publish `command` for `pool`; return once its outcome is projected, or the wait is over.

        Raises the problem the command is refused with. A repeat (same actor, same key, same
        request) gives the first answer and publishes nothing once that is known.
        """
        until_s = asyncio.get_running_loop().time() + self._deps.settings.command_wait_s
        command_id, row = await self._identify(call)
        if row is None:
            span = trace.get_current_span()
            span.set_attributes({"teo.command_id": command_id, "teo.pool": pool})
            record = self._record(call, pool, command, command_id)
            await self._publish(record, command_id, until_s=until_s)
            wait_s = max(0.0, until_s - asyncio.get_running_loop().time())
            if self._partitions.of_pool(pool) is not None:
                wait_s = min(wait_s, UNSERVED_WAIT_S)
            row = await self._deps.reads.wait_for_command(command_id, wait_s=wait_s)
        if row is None:
            log.info("command.undecided", command_id=command_id, pool=pool)
            return Undecided(command_id=command_id, detail=self._why_not(pool))
        return await self._accepted(call, row)

    def _why_not(self, pool: str) -> str:
        unserved = self._partitions.of_pool(pool)
        if unserved is None:
            return ""
        return (
            f"it is on the log and is not decided before pool {pool} is served again; "
            f"{unserved.told()}"
        )

    async def _identify(self, call: Call) -> tuple[str, CommandRow | None]:
        """Return the command's id, and its outcome if it is a repeat whose outcome is known."""
        key = call.idempotency_key
        if key is None:
            return str(self._deps.new_id()), None
        window = timedelta(seconds=IDEMPOTENCY_WINDOW_S)
        after = ""
        for _ in range(KEY_GENERATIONS_MAX):
            command_id = command_id_of(call.actor.actor, key, after=after)
            row = await self._deps.reads.command(command_id)
            if row is None or self._deps.clock() - row.at < window:
                return command_id, row
            after = command_id
        detail = f"Idempotency-Key {key!r} was used too often; use a fresh one for each request"
        raise Problem(422, "idempotency_key_worn_out", detail)

    def _record(self, call: Call, pool: str, command: Command, command_id: str) -> Outgoing:
        meta = CommandMeta(
            command_id=command_id,
            pool=pool,
            actor=call.actor.actor,
            roles=call.actor.roles,
            issued_at=self._deps.clock(),
            correlation_id=call.trace.trace_id,
            traceparent=call.trace.traceparent,
            request_hash=call.request_hash,
        )
        return Outgoing(
            topic=self._deps.topics.commands,
            key=pool.encode(),
            value=encode(Message(meta, command)),
            headers={
                "ce_type": type(command).__name__.encode(),
                "ce_id": command_id.encode(),
                "traceparent": call.trace.traceparent.encode(),
            },
        )

    async def _publish(self, record: Outgoing, command_id: str, *, until_s: float) -> None:
        """Append until it is acknowledged. The id makes a second copy harmless.

        Raises the 413 of a command that the log never takes.
        """
        pause_s = PUBLISH_PAUSE_S_MIN
        while True:
            left_s = until_s - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(left_s, PUBLISH_PAUSE_S_MIN)):
                    await self._deps.log.append([record])
            except RecordTooBig as error:
                raise _too_big(record, command_id) from error
            except (LogUnavailable, TimeoutError) as error:
                if until_s - asyncio.get_running_loop().time() <= pause_s:
                    raise _unavailable(command_id, error) from error
                log.warning("command.publish_retried", command_id=command_id, error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PUBLISH_PAUSE_S_MAX)
            else:
                return

    async def _accepted(self, call: Call, row: CommandRow) -> Accepted:
        if row.request_hash and row.request_hash != call.request_hash:
            detail = (
                f"Idempotency-Key {call.idempotency_key!r} was used for another request "
                f"({row.type}, command {row.id}); use a fresh key for each request"
            )
            raise Problem(422, "idempotency_key_reused", detail, command_id=row.id)
        position = Position(row.partition, row.offset)
        headers = headers_of(row.id, position)
        if row.status != "accepted":
            status = status_of_rejection(row.code)
            raise Problem(status, row.code, row.reason, command_id=row.id, headers=headers)
        # The outcome may be projected before the last event of its decision.
        if not await self._deps.reads.wait_for(position, wait_s=POSITION_WAIT_S):
            log.warning("command.projection_behind", command_id=row.id, position=str(position))
        return Accepted(command_id=row.id, subject_id=row.subject_id, position=position)


def headers_of(command_id: str, position: Position) -> dict[str, str]:
    """Return the headers of an answer to a command."""
    return {
        "TEO-Command-Id": command_id,
        "TEO-Position": f"{position.partition}:{position.offset}",
    }


def _too_big(record: Outgoing, command_id: str) -> Problem:
    detail = (
        f"the command takes {record.size_bytes} bytes on the log, and that is more than the log "
        "takes of a command; nothing was changed: ask for less at once, or have `teo init` say "
        "whether the topics are as they should be"
    )
    return Problem(413, "command_too_big", detail, command_id=command_id)


def _unavailable(command_id: str, error: Exception) -> Problem:
    detail = (
        "the log does not answer, so the command may or may not have been taken "
        f"({type(error).__name__}: {error}); send it again with the same Idempotency-Key, or look "
        f"at its outcome with GET /v1/commands/{command_id}"
    )
    headers = {"Retry-After": "2", "TEO-Command-Id": command_id}
    return Problem(503, "log_unavailable", detail, command_id=command_id, headers=headers)
