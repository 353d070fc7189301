"""Publishes commands and waits for their outcome on the log. Never decides anything."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import structlog
from opentelemetry import trace

from api.call import Call
from api.clock import LogClock
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
from api.problems import Problem, set_aside, status_of_rejection
from events.codec import encode
from events.commands import Command
from events.errors import LogUnavailable, RecordTooBig
from events.log import Outgoing, Position
from events.message import Message
from events.shared import CommandMeta
from processors.scheduler.core import KEY_REPEAT
from projections.commands import SET_ASIDE
from projections.rows import CommandRow
from projections.runtime import IsWanted, any_outcome

log = structlog.get_logger()

WINDOW = timedelta(seconds=IDEMPOTENCY_WINDOW_S)

_KEYS = UUID("0b8a4c1e-53d7-5f5e-8d3f-6f0a1e7c9b52")
"""Namespace of command ids made from actor, pool and key. Never changes: another scope, another."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a request stands for: its command's id, the one before under its key, its outcome."""

    command_id: str
    after: str = ""
    row: CommandRow | None = None


def command_id_of(actor: str, pool: str, key: str, *, after: str = "") -> str:
    """Return the id of the command that `actor` sends to `pool` under `key`.

    The pool is in it because a pool is where outcomes are decided: one id never has two. `after`
    is the id of an earlier command under the same key whose window is over: so a key may be used
    again after the window, and still no two commands share an id.
    """
    parts = "".join(f"{len(part)}:{part}" for part in (actor, pool, key))
    return str(uuid5(_KEYS, f"{parts}{after}"))


def _is_decided(row: CommandRow) -> bool:
    return row.status != SET_ASIDE


class Gateway:
    """From a command to its outcome."""

    def __init__(self, deps: Deps, clock: LogClock, partitions: PartitionWatch) -> None:
        self._deps = deps
        self._clock = clock
        self._partitions = partitions

    async def ask(self, call: Call, pool: str, command: Command) -> Outcome:
        """Publish `command` for `pool`; return once its outcome is projected, or the wait is over.

        Raises the problem the command is refused with. A repeat (same actor, pool, key and
        request) gives the first answer and publishes nothing once that is known.
        """
        until_s = asyncio.get_running_loop().time() + self._deps.settings.command_wait_s
        asked = await self._identify(call, pool, until_s=until_s)
        row = asked.row
        if row is None:
            span = trace.get_current_span()
            span.set_attributes({"teo.command_id": asked.command_id, "teo.pool": pool})
            row = await self._send(call, pool, command, asked, until_s=until_s)
        if row is None:
            log.info("command.undecided", command_id=asked.command_id, pool=pool)
            return Undecided(command_id=asked.command_id, detail=self._why_not(pool))
        return await self._accepted(call, await self._first(row))

    async def _send(
        self, call: Call, pool: str, command: Command, asked: _Asked, *, until_s: float
    ) -> CommandRow | None:
        """Publish a command; return its outcome, or None if that takes longer."""
        is_wanted: IsWanted = any_outcome
        for _ in range(2):
            issued_at = self._clock.now()
            record = self._record(call, pool, command, asked, issued_at)
            await self._publish(record, asked.command_id, until_s=until_s)
            self._clock.measure()
            if not self._clock.is_older(issued_at, WINDOW):
                break
            # The log has just told that this process did not know the time: what was sent goes
            # to the dead letters as too late. Sent with the right time it is decided.
            log.warning("command.sent_again", command_id=asked.command_id, reason="too late")
            is_wanted = _is_decided
        wait_s = max(0.0, until_s - asyncio.get_running_loop().time())
        if self._partitions.of_pool(pool) is not None:
            wait_s = min(wait_s, UNSERVED_WAIT_S)
        return await self._deps.reads.wait_for_command(
            asked.command_id, wait_s=wait_s, is_wanted=is_wanted
        )

    def _why_not(self, pool: str) -> str:
        unserved = self._partitions.of_pool(pool)
        if unserved is None:
            return ""
        return (
            f"it is on the log and is not decided before pool {pool} is served again; "
            f"{unserved.told()}"
        )

    async def _identify(self, call: Call, pool: str, *, until_s: float) -> _Asked:
        """Return which command a request is, and its outcome if it is a repeat of a known one.

        Whether the window of a key is over is decided on the log: an earlier command that seems
        older here is named by the next one, and refuses it if it is not. Only the read models know
        those that the scheduler has forgotten, so they must know all of the past.
        """
        key = call.idempotency_key
        if key is None:
            return _Asked(command_id=str(self._deps.new_id()))
        after = ""
        for _ in range(KEY_GENERATIONS_MAX):
            command_id = command_id_of(call.actor.actor, pool, key, after=after)
            row = await self._known(command_id, pool, until_s=until_s)
            if row is None or self._clock.now() - row.at < WINDOW:
                return _Asked(command_id=command_id, after=after, row=row)
            after = command_id
        detail = f"Idempotency-Key {key!r} was used too often; use a fresh one for each request"
        raise Problem(422, "idempotency_key_worn_out", detail)

    async def _known(self, command_id: str, pool: str, *, until_s: float) -> CommandRow | None:
        """Return the outcome of a command; None: it was decided within the window, or never.

        Raises the 503 for as long as the read models may lack an older one.
        """
        row = await self._deps.reads.command(command_id)
        if row is not None:
            return row
        wait_s = max(0.0, until_s - asyncio.get_running_loop().time())
        if await self._deps.reads.knows(pool, self._clock.now() - WINDOW, wait_s=wait_s):
            return await self._deps.reads.command(command_id)
        detail = (
            "the read models do not know all of the past yet, so this may be a repeat of what was "
            "decided long ago; nothing was sent: ask again with the same Idempotency-Key, and see "
            "`projection` of /readyz if this lasts"
        )
        headers = {"Retry-After": "1"}
        raise Problem(503, "projection_behind", detail, command_id=command_id, headers=headers)

    async def _first(self, row: CommandRow) -> CommandRow:
        """Return the outcome that a refusal as a repeat stands for."""
        for _ in range(KEY_GENERATIONS_MAX):
            first = None
            if row.code == KEY_REPEAT:
                first = await self._deps.reads.command(row.subject_id)
            if first is None:
                break
            row = first
        return row

    def _record(
        self, call: Call, pool: str, command: Command, asked: _Asked, issued_at: datetime
    ) -> Outgoing:
        command_id = asked.command_id
        meta = CommandMeta(
            command_id=command_id,
            pool=pool,
            actor=call.actor.actor,
            roles=call.actor.roles,
            issued_at=issued_at,
            correlation_id=call.trace.trace_id,
            traceparent=call.trace.traceparent,
            request_hash=call.request_hash,
            after=asked.after,
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
        if row.status == SET_ASIDE:
            raise set_aside(row, headers)
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
