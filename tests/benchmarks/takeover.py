"""How long a standby takes to decide in the place of a scheduler that was killed or stopped.

Measured from the signal until a command on every partition is decided.
"""

import asyncio
import time

from events.codec import decode_event
from events.commands import ReleaseReservation
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Outgoing, Partition
from events.topics import Topics, specs
from tests.on_log import asked
from tests.schedulers import scheduler

PARTITIONS = 4
TURNS = 3
SETTLE_S = 8.0


class Probe:
    """Asks something on every partition, and waits until all of it is decided."""

    def __init__(self, log: Log, topics: Topics) -> None:
        self._log = log
        self._topics = topics
        names = (f"lab-{number}" for number in range(100))
        self._pools = {log.partition_for(name.encode(), PARTITIONS): name for name in names}
        self._count = 0

    async def decided(self) -> None:
        """Return once every partition decided a command sent now."""
        every = [Partition(self._topics.events, number) for number in range(PARTITIONS)]
        reader = await self._log.open_reader(await self._log.ends(every))
        probes = dict(self.command(pool) for pool in self.pools)
        await self._log.append(list(probes.values()))
        left = set(probes)
        try:
            while left:
                for record in await reader.poll(records_max=500, wait_s=0.05):
                    left.discard(decode_event(record.value).meta.causation_id)
        finally:
            await reader.close()

    @property
    def pools(self) -> list[str]:
        """One pool for each partition."""
        return list(self._pools.values())

    def command(self, pool: str) -> tuple[str, Outgoing]:
        """Return a command that changes nothing, and its id."""
        self._count += 1
        name = f"probe-{self._count}"
        body = ReleaseReservation(reservation_id="none")
        return name, asked(self._topics, name, body, pool=pool)


async def takeovers(bootstrap: str, prefix: str) -> tuple[list[float], list[float]]:
    """Return the times after kill -9, and after SIGTERM, seconds."""
    topics = Topics(prefix)
    await ensure_topics(
        bootstrap, specs(topics, partitions=PARTITIONS, min_insync=1), replication=1
    )
    killed: list[float] = []
    stopped: list[float] = []
    async with KafkaLog(bootstrap, client_id="bench") as log:
        probe = Probe(log, topics)
        with scheduler(bootstrap, prefix):
            await probe.decided()
            for turn in range(2 * TURNS):
                with scheduler(bootstrap, prefix) as other:
                    await asyncio.sleep(SETTLE_S)
                    await probe.decided()
                    assert other.poll() is None, "it ended by itself: there is nothing to take over"
                    start_s = time.perf_counter()
                    if turn % 2:
                        other.terminate()
                    else:
                        other.kill()
                    await probe.decided()
                    took_s = time.perf_counter() - start_s
                    (stopped if turn % 2 else killed).append(took_s)
    return killed, stopped
