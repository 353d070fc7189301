"""Pools are found in the journal; what is no event of ours there stops no worker."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from events.codec import encode
from events.facts import BenchRegistered
from events.log import Partition, Record
from events.message import Message
from events.shared import BenchSpec, EventMeta
from processors.worker.discovery import pools
from tests.unit.processors.worker.lab import START, TOPICS


class Journal:
    """A journal of one partition, read once."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values

    async def partitions(self, topic: str) -> int:
        return 1

    async def begins(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    async def open_reader(self, starts: Mapping[Partition, int]) -> "Journal":
        return self

    async def poll(self, *, records_max: int, wait_s: float) -> Sequence[Record]:
        found, self._values = self._values, ()
        await asyncio.sleep(0)
        return [
            Record(
                topic=TOPICS.events,
                partition=0,
                offset=offset,
                timestamp=START,
                key=b"k",
                value=value,
                headers={"ce_type": b"BenchRegistered"},
            )
            for offset, value in enumerate(found)
        ]

    async def close(self) -> None: ...


def registered(pool: str) -> bytes:
    spec = BenchSpec(name="b", adapter="mock", labels={}, config="{}")
    meta = EventMeta(
        event_id="e",
        pool=pool,
        seq=0,
        index=0,
        count=1,
        occurred_at=START,
        actor="a",
        causation_id="",
        correlation_id="",
        traceparent="",
        input_topic="",
        input_offset=-1,
        request_hash="",
    )
    return encode(Message(meta, BenchRegistered(bench=spec)))


def test_junk_that_calls_itself_a_bench_is_passed_over() -> None:
    journal: Any = Journal([registered("a"), b"junk", registered("a"), registered("b")])

    async def found() -> list[str]:
        names = []
        async for pool in pools(journal, TOPICS):
            names.append(pool)
            if pool == "b":
                break
        return names

    assert asyncio.run(found()) == ["a", "b"]
