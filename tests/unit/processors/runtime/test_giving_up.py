"""A partition that is given up is let go of, also if a cancel is swallowed on the way."""

import asyncio
from typing import Any, cast

from opentelemetry.metrics import NoOpMeterProvider

from events.topics import Topics
from processors.runtime.log_time import Clock
from processors.runtime.owner import Owner
from processors.runtime.service import Scheduler
from tests.sim.loop import run
from tests.sim.memory_log import MemoryCluster, MemoryLog


def test_an_owner_that_swallows_a_cancel_is_cancelled_again() -> None:
    async def scene() -> int:
        topics = Topics("t")
        cluster = MemoryCluster(topics=topics)
        clock = Clock(now=cluster.now, monotonic_s=asyncio.get_running_loop().time)
        meter = NoOpMeterProvider().get_meter("t")
        scheduler = Scheduler(MemoryLog(cluster), topics, clock, meter)
        swallowed = 0

        async def stubborn() -> None:
            nonlocal swallowed
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if swallowed == 2:
                        raise
                    swallowed += 1

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        scheduler._owners[0] = (cast(Owner, None), cast(Any, task))
        await scheduler._give_up(0)
        assert task.done()
        return swallowed

    assert run(scene()) == 2
