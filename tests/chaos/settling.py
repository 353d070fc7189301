"""When a chaos lab has come to rest: what is still open, and whether everything agrees."""

import asyncio
import sys
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from cli.fsck import UNREADABLE
from events import facts
from events.message import EventMessage
from tests.chaos.clients import History
from tests.chaos.roles import RoleProcess
from tests.sim.checkers import Violated

IN_STEP_S_MAX = 10.0
FSCK_CHARS_MAX = 4_000
FSCK_TRIES = 20
FSCK_WAIT_S = 2.0


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


async def fsck(kafka: str, prefix: str, roles: Sequence[RoleProcess]) -> str:
    """Let `teo fsck` compare journal, snapshots and live states; return its last words.

    Raises `Violated` if it finds anything.
    """
    ports = [role.health_port for role in roles if role.health_port]
    for _ in range(FSCK_TRIES):
        code, text = await _fsck_once(kafka, prefix, ports)
        if code == 0:
            return " ".join(text.split())
        if code != UNREADABLE:
            break
        await asyncio.sleep(FSCK_WAIT_S)  # A scheduler is just starting.
    raise Violated(f"teo fsck exits with {code}: {text[-FSCK_CHARS_MAX:]}")


async def _fsck_once(kafka: str, prefix: str, ports: Sequence[int]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "fsck", "--kafka", kafka, "--topic-prefix", prefix),
        *(word for port in ports for word in ("--scheduler", f"http://127.0.0.1:{port}")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")
