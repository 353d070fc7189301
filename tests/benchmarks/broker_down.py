"""How many commands a second are decided on three brokers, while one of them is down, and after.

A scheduler process, replication 3, two in-sync replicas asked for. Sixteen clients each send a
command and wait for its outcome on the journal before they send the next.
"""

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from events.codec import decode_event
from events.errors import LogUnavailable
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Partition
from events.topics import Topics, specs
from tests.benchmarks.takeover import PARTITIONS, Probe
from tests.schedulers import scheduler

CLIENTS = 16
PHASE_S = 15.0
TOPICS = Topics("down")


@dataclass
class Outcomes:
    """Who waits for which command, and when outcomes came."""

    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    decided_at: list[float] = field(default_factory=list)

    async def follow(self, log: Log) -> None:
        """Read the journal for ever, whatever happens to the brokers."""
        every = [Partition(TOPICS.events, number) for number in range(PARTITIONS)]
        reader = await log.open_reader(await log.ends(every))
        try:
            while True:
                with suppress(LogUnavailable):
                    for record in await reader.poll(records_max=1_000, wait_s=0.2):
                        self._take(decode_event(record.value).meta.causation_id)
        finally:
            await reader.close()

    def _take(self, command_id: str) -> None:
        future = self.waiting.pop(command_id, None)
        if future is not None and not future.done():
            self.decided_at.append(time.perf_counter())
            future.set_result(None)


async def client(log: Log, probe: Probe, outcomes: Outcomes, pools: "itertools.cycle[str]") -> None:
    """Ask, wait for the outcome, ask again."""
    while True:
        command_id, record = probe.command(next(pools))
        future = outcomes.waiting[command_id] = asyncio.get_running_loop().create_future()
        while True:
            try:
                await log.append([record])
            except LogUnavailable:
                await asyncio.sleep(0.1)
            else:
                break
        await future


async def rates(folder: Path) -> dict[str, tuple[float, float]]:
    """Return for each phase the commands decided a second, and the longest pause in seconds."""
    config = ClusterConfig(data_dir=folder, nodes=3, heap_mb=256)
    async with EmbeddedKafka(config) as kafka:
        wanted = specs(TOPICS, partitions=PARTITIONS, min_insync=2)
        await ensure_topics(kafka.bootstrap, wanted, replication=3)
        async with KafkaLog(kafka.bootstrap, client_id="bench") as log:
            with scheduler(kafka.bootstrap, TOPICS.prefix):
                probe, outcomes = Probe(log, TOPICS), Outcomes()
                await probe.decided()
                work = [asyncio.create_task(outcomes.follow(log))]
                pools = itertools.cycle(probe.pools)
                work += [
                    asyncio.create_task(client(log, probe, outcomes, pools)) for _ in range(CLIENTS)
                ]
                try:
                    return await _phases(kafka, outcomes)
                finally:
                    for task in work:
                        task.cancel()
                    ends = await asyncio.gather(*work, return_exceptions=True)
                    broken = [end for end in ends if isinstance(end, Exception)]
                    assert not broken, f"a client of the measurement broke: {broken}"


async def _phases(kafka: EmbeddedKafka, outcomes: Outcomes) -> dict[str, tuple[float, float]]:
    found = {}
    await asyncio.sleep(3.0)  # The JVMs are slow at first.
    found["all up"] = await _phase(outcomes)
    kafka.kill(2)
    found["one killed, the first seconds"] = await _phase(outcomes)
    found["one down"] = await _phase(outcomes)
    await kafka.restart(2)
    found["all up again"] = await _phase(outcomes)
    return found


async def _phase(outcomes: Outcomes) -> tuple[float, float]:
    start_s = time.perf_counter()
    await asyncio.sleep(PHASE_S)
    end_s = time.perf_counter()
    times = [at for at in outcomes.decided_at if start_s <= at <= end_s]
    pauses = [later - sooner for sooner, later in itertools.pairwise([start_s, *times, end_s])]
    return len(times) / (end_s - start_s), max(pauses)
