"""The pools that a worker finds: each once, whatever else stands in the journal."""

import asyncio
from contextlib import aclosing

import pytest

from events.codec import encode
from events.errors import LogUnavailable
from events.facts import BenchRegistered
from events.log import Outgoing
from events.shared import BenchSpec
from events.topics import Topics
from processors.worker.discovery import pools
from tests.sim.loop import run
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog, MemoryReader
from tests.unit.processors.watchers.facts_of import message

TOPICS = Topics("t")
BENCH = BenchSpec(name="b1", labels={}, adapter="mock", config="{}")


def registered(pool: str, *, seq: int, partition: int = 0) -> Outgoing:
    event = message(BenchRegistered(bench=BENCH), seq=seq, at_s=seq, pool=pool)
    return Outgoing(
        topic=TOPICS.events,
        key=pool.encode(),
        value=encode(event),
        headers={"ce_type": b"BenchRegistered"},
        partition=partition,
    )


JUNK = Outgoing(
    topic=TOPICS.events,
    key=b"x",
    value=b"junk",
    headers={"ce_type": b"BenchRegistered"},
    partition=0,
)


async def found(log: MemoryLog, count: int) -> list[str]:
    names: list[str] = []
    async with aclosing(pools(log, TOPICS)) as each, asyncio.timeout(60):
        async for name in each:
            names.append(name)
            if len(names) == count:
                break
    return names


def test_junk_and_what_no_scheduler_wrote_are_no_pools() -> None:
    async def scene() -> list[str]:
        log = MemoryLog(MemoryCluster(topics=TOPICS))
        forged = registered("forged", seq=7, partition=1)  # With the id of another partition's.
        await log.append([registered("a", seq=0), JUNK, forged, registered("b", seq=1)])
        return await found(log, 2)

    assert run(scene()) == ["a", "b"]


def test_a_journal_that_cannot_be_read_for_a_while_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poll, failed = MemoryReader.poll, []

    async def fails_at_first(reader: MemoryReader, **asked: float) -> object:
        if len(failed) < 3:
            failed.append(asyncio.get_running_loop().time())
            raise LogUnavailable("the topic was made anew")
        return await poll(reader, **asked)  # type: ignore[arg-type]

    async def scene() -> list[str]:
        log = MemoryLog(MemoryCluster(topics=TOPICS))
        await log.append([registered("a", seq=0)])
        monkeypatch.setattr(MemoryReader, "poll", fails_at_first)
        return await found(log, 1)

    assert run(scene()) == ["a"]
    assert failed[2] - failed[0] >= 2.0, "and not without a pause"
