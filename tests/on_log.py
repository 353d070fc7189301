"""What tests put on the log, and what they find there."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from api.deps import utc_now
from events.codec import encode
from events.commands import Command
from events.errors import LogUnavailable
from events.log import Log, Outgoing, Partition, Record
from events.message import Message
from events.shared import CommandMeta
from events.topics import Topics

PAUSE_S = 0.2


def command_of(
    command_id: str,
    body: Command,
    *,
    pool: str = "lab",
    roles: Sequence[str] = (),
    issued_at: datetime | None = None,
) -> bytes:
    """Return a command as it stands on the log, of now unless told otherwise."""
    meta = CommandMeta(
        command_id=command_id,
        pool=pool,
        actor="ann",
        roles=tuple(roles),
        issued_at=issued_at or utc_now(),
        correlation_id=command_id,
        traceparent="",
        request_hash="h",
    )
    return encode(Message(meta, body))


def asked(
    topics: Topics,
    command_id: str,
    body: Command,
    *,
    pool: str = "lab",
    roles: Sequence[str] = (),
) -> Outgoing:
    """Return the record of a command."""
    value = command_of(command_id, body, pool=pool, roles=roles)
    return Outgoing(topic=topics.commands, key=pool.encode(), value=value)


async def ask(
    log: Log,
    topics: Topics,
    command_id: str,
    body: Command,
    *,
    pool: str = "lab",
    roles: Sequence[str] = (),
) -> None:
    """Send a command until it is acknowledged."""
    await append(log, [asked(topics, command_id, body, pool=pool, roles=roles)])


async def append(log: Log, records: Sequence[Outgoing]) -> None:
    """Write `records` until they are acknowledged."""
    while True:
        with suppress(LogUnavailable):
            await log.append(records)
            return
        await asyncio.sleep(PAUSE_S)


async def read_parts(
    log: Log, topic: str, starts: dict[int, int] | None = None
) -> list[list[Record]]:
    """Return for each partition what is committed by now, from `starts` on or from its begin.

    `starts` then says where to go on.
    """
    partitions = [Partition(topic, number) for number in range(await log.partitions(topic))]
    ends, begins = await log.ends(partitions), await log.begins(partitions)
    found: list[list[Record]] = [[] for _ in partitions]
    reader = await log.open_reader(
        {each: (starts or {}).get(each.number, begins[each]) for each in partitions}
    )
    try:
        for each in partitions:
            while await reader.position(each) < ends[each]:
                for record in await reader.poll(records_max=5_000, wait_s=1.0):
                    found[record.partition].append(record)
        if starts is not None:
            starts.update({each.number: await reader.position(each) for each in partitions})
    finally:
        await reader.close()
    return found


async def read_all(log: Log, topic: str, starts: dict[int, int] | None = None) -> list[Record]:
    """Return the same, one partition behind the other."""
    return [record for part in await read_parts(log, topic, starts) for record in part]
