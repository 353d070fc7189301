"""What is done to a lab at rest, once each, and it goes on: inputs made anew, inputs cut short."""

import asyncio
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from cli.local.cluster import EmbeddedKafka
from events.errors import LogUnavailable
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Partition
from processors.runtime.recovery import recover
from tests.chaos.stage import BROKERS, SPECS, TOPICS

GONE_S_MAX = 30.0
POLL_S = 0.2
CUT_MAX = 6
ACCEPTED_S_MAX = 120.0
_BATCH = struct.Struct(">qi")
"""How a batch of records begins on disk: its first offset, and how many bytes follow."""


async def remake_inputs(bootstrap: str, dice: random.Random, note: Callable[[str], None]) -> str:
    """Delete a topic of inputs and make it again, empty; return its name."""
    name = dice.choice([TOPICS.commands, TOPICS.reports])
    note(f"deleting {name} and making it anew")
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        await client.start()
        await client.delete_topics([name])
    finally:
        await client.close()
    spec = next(each for each in SPECS if each.name == name)
    end_s = time.monotonic() + GONE_S_MAX
    while True:
        try:
            made = await ensure_topics(bootstrap, [spec], replication=BROKERS)
        except (KafkaError, LogUnavailable) as error:
            if time.monotonic() > end_s:
                raise
            note(f"not yet: {error!r}")
        else:
            if name in made:
                return name
        await asyncio.sleep(POLL_S)  # The brokers still know the old one.


async def shorten_inputs(
    kafka: EmbeddedKafka, folder: Path, dice: random.Random, note: Callable[[str], None]
) -> str:
    """Take the newest inputs off all copies, as if no disk had had them yet; return which.

    The brokers are killed and started on what is left. A scheduler waits for a broker that has the
    rest, so an operator says that none has.
    """
    name, number, due = await _decided(kafka.bootstrap, dice)
    cut = max(0, due - dice.randint(1, CUT_MAX))
    note(f"cutting {name} partition {number} at offset {cut}; up to {due} was decided")
    for node in range(1, BROKERS + 1):
        kafka.kill(node)
    for node in range(1, BROKERS + 1):
        _cut(folder / f"node-{node}" / "data" / f"{name}-{number}", cut)
    await kafka.heal()
    await _accept(kafka.bootstrap, number, note)
    return f"{name} {number} from {cut} on"


async def _decided(bootstrap: str, dice: random.Random) -> tuple[str, int, int]:
    """Return a partition of inputs, and up to which offset the journal was decided from it."""
    found: list[tuple[str, int, int]] = []
    async with KafkaLog(bootstrap, client_id="nemesis") as log:
        for number in range(await log.partitions(TOPICS.events)):
            ledger = await recover(log, Partition(TOPICS.events, number))
            found += [(topic, number, at + 1) for topic, at in sorted(ledger.positions.items())]
    return dice.choice([each for each in found if each[2]])


def _cut(partition: Path, offset: int) -> None:
    """Cut the file of a stopped broker before the batch that holds `offset`."""
    [*_, newest] = sorted(partition.glob("*.log"))
    data = newest.read_bytes()
    at = max((at for at, first in _batches(data) if first <= offset), default=0)
    with newest.open("r+b") as file:
        file.truncate(at)


def _batches(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each batch of a log file begins, and its first offset."""
    at = 0
    while at + _BATCH.size <= len(data):
        first, size = _BATCH.unpack_from(data, at)
        if not size:
            return  # Room that was made for records to come.
        yield at, first
        at += _BATCH.size + size


async def _accept(bootstrap: str, number: int, note: Callable[[str], None]) -> None:
    """Say that no broker has the rest, again while the brokers are still starting."""
    end_s = time.monotonic() + ACCEPTED_S_MAX
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "journal", "accept-inputs", "--yes"),
            *("--partition", str(number), "--reason", "all copies were cut"),
            *("--kafka", bootstrap, "--topic-prefix", TOPICS.prefix),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        said = " ".join(output.decode(errors="replace").split())
        note(said)
        if process.returncode == 0:
            return
        assert time.monotonic() < end_s, said
        await asyncio.sleep(POLL_S)
