"""Which pools a worker finds that serves whatever comes: on a journal that others wrote to as well,
and after another one was begun."""

import asyncio

from events import facts
from events.codec import encode
from events.ids import event_id
from events.log import Outgoing
from events.message import Message
from events.shared import BenchSpec, EventMeta
from events.topics import Topics
from processors.worker.discovery import pools
from tests.sim.loop import run
from tests.sim.memory_cluster import START, MemoryCluster
from tests.sim.memory_log import MemoryLog

TOPICS = Topics("t")
HEADERS = {"ce_type": b"BenchRegistered"}


def registered(pool: str, seq: int, event: str = "") -> Outgoing:
    meta = EventMeta(
        event_id=event or event_id(START, 0, seq),
        pool=pool,
        seq=seq,
        index=0,
        count=1,
        occurred_at=START,
        actor="ann",
        causation_id="",
        correlation_id="",
        traceparent="",
        input_topic="",
        input_offset=-1,
        request_hash="",
    )
    body = facts.BenchRegistered(bench=BenchSpec(name="b", adapter="mock", labels={}, config="{}"))
    value = encode(Message(meta, body))
    return Outgoing(topic=TOPICS.events, key=b"", value=value, headers=HEADERS, partition=0)


def test_junk_in_the_journal_ends_no_worker_and_makes_no_pool() -> None:
    async def scene() -> None:
        cluster = MemoryCluster(TOPICS, partitions=1)
        junk = Outgoing(topic=TOPICS.events, key=b"", value=b"junk", headers=HEADERS, partition=0)
        for each in (junk, registered("lab", 0), registered("zoo", 1, "forged"), junk):
            cluster.put(each)
        found = aiter(pools(MemoryLog(cluster), TOPICS))
        assert await anext(found) == "lab"
        later = asyncio.ensure_future(anext(found))
        await asyncio.sleep(5.0)
        cluster.make_anew(TOPICS.events)
        await asyncio.sleep(5.0)
        cluster.put(registered("lab", 0))
        cluster.put(registered("new", 1))
        assert await later == "new"

    run(scene())
