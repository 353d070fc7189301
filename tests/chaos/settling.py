"""When a chaos lab has come to rest: what is still open, and what the live schedulers know."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from events import facts
from events.message import EventMessage
from tests.chaos.clients import History
from tests.chaos.roles import RoleProcess

LIVE_TRIES = 20
LIVE_WAIT_S = 2.0
IN_STEP_S_MAX = 10.0
GAUGE = re.compile(r'^teo_scheduler_(\w+)\{[^}]*pool="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)


class Restless(AssertionError):
    """Raised when something does not come to rest."""


def what_is_left(journals: Sequence[Sequence[EventMessage]], history: History) -> list[str]:
    """Return what is still open: executions, reservations, and asks without an outcome."""
    begun = dict.fromkeys(sorted(history.executions))
    ended: set[str] = set()
    decided: set[str] = set()
    for message in (each for journal in journals for each in journal):
        decided.add(message.meta.causation_id)
        match message.body:
            case facts.ExecutionSubmitted(execution_id=name):
                begun[name] = None
            case facts.ReservationRequested(reservation_id=name):
                begun[name] = None
            case facts.ExecutionFinished(execution_id=name):
                ended.add(name)
            case (
                facts.ReservationReleased(reservation_id=name)
                | facts.ReservationExpired(reservation_id=name)
                | facts.ReservationCancelled(reservation_id=name)
                | facts.ReservationRevoked(reservation_id=name)
            ):
                ended.add(name)
    undecided = sorted({ack.command_id for ack in history.acks} - decided)
    return [
        *(name for name in begun if name not in ended),
        *(f"command {each}" for each in undecided),
    ]


async def _live_counts(roles: Sequence[RoleProcess]) -> dict[str, int]:
    """Return how much the live schedulers say they know together, by pool and kind."""
    counts: dict[str, int] = {}
    async with httpx.AsyncClient(timeout=10.0) as http:
        for role in roles:
            if role.health_port:
                answer = await http.get(f"http://127.0.0.1:{role.health_port}/metrics")
                for name, pool, count in GAUGE.findall(answer.text):
                    key = f"{pool} {name}"
                    counts[key] = counts.get(key, 0) + int(float(count))
    return counts


async def settled_counts(roles: Sequence[RoleProcess]) -> dict[str, int]:
    """Return the counts once they stay the same: a partition may just be changing hands."""
    before: dict[str, int] | None = None
    for _ in range(LIVE_TRIES):
        with suppress(httpx.HTTPError):
            now = await _live_counts(roles)
            if now == before:
                return now
            before = now
        await asyncio.sleep(LIVE_WAIT_S)
    raise Restless(f"the live schedulers do not come to rest: {before}")


async def in_step(bootstrap: str, topics: Sequence[str], copies: int) -> bool:
    """Return whether every partition has all its copies in step; False if nobody answers."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        async with asyncio.timeout(IN_STEP_S_MAX):
            await client.start()
            described = await client.describe_topics(list(topics))
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()
    return all(len(part["isr"]) == copies for topic in described for part in topic["partitions"])
