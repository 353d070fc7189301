"""A partition that is given up is let go of, whatever swallows the cancel; one that is owned has
an owner that lives."""

import asyncio
from contextlib import suppress
from typing import cast

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from events.errors import LogUnavailable
from events.topics import Topics
from processors.runtime.log_time import Clock
from processors.runtime.owner import Owner
from processors.runtime.service import Scheduler
from tests.sim.loop import run
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog

TOPICS = Topics("t")
SOON_S = 30.0
"""Of virtual time."""
LONG_S = 2.0 * 3600
"""Of virtual time: longer than anything that doubles may double."""


def scheduler_on(cluster: MemoryCluster) -> Scheduler:
    clock = Clock(now=cluster.now, monotonic_s=asyncio.get_running_loop().time)
    meter = NoOpMeterProvider().get_meter("t")
    return Scheduler(MemoryLog(cluster), TOPICS, clock, meter)


def test_an_owner_that_swallows_a_cancel_is_cancelled_again() -> None:
    async def scene() -> int:
        scheduler = scheduler_on(MemoryCluster(topics=TOPICS))
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
        scheduler._owners[0] = (cast(Owner, None), task)
        await scheduler._give_up(0)
        assert task.done()
        return swallowed

    assert run(scene()) == 2


def test_a_scheduler_cancelled_again_while_its_owners_end_leaves_the_group() -> None:
    async def scene() -> None:
        cluster = MemoryCluster(topics=TOPICS)
        scheduler = scheduler_on(cluster)
        running = asyncio.create_task(scheduler.run())
        await asyncio.sleep(SOON_S)

        async def slow() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(1)

        scheduler._owners[99] = (cast(Owner, None), asyncio.create_task(slow()))
        (group,) = cluster.groups
        assert cluster.groups[group]
        while not running.done():
            running.cancel()
            await asyncio.sleep(0.1)
        assert not cluster.groups[group]

    run(scene())


def test_an_owner_that_ended_by_itself_is_replaced() -> None:
    """As by a cancel that nobody asked for: a group of tasks takes no notice of that."""

    async def scene() -> None:
        scheduler = scheduler_on(MemoryCluster(topics=TOPICS))
        running = asyncio.create_task(scheduler.run())
        await asyncio.sleep(SOON_S)
        ended, task = scheduler._owners[0]
        task.cancel()
        await asyncio.sleep(SOON_S)
        assert scheduler.owners[0] is not ended
        assert scheduler.is_ready
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    run(scene())


def test_an_owner_outlives_an_outage_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_: Owner) -> None:
        raise LogUnavailable("the broker is away")

    async def scene() -> None:
        scheduler = scheduler_on(MemoryCluster(topics=TOPICS))
        with monkeypatch.context() as broken:
            broken.setattr(Owner, "_serve", fails)
            running = asyncio.create_task(scheduler.run())
            await asyncio.sleep(LONG_S)
        assert not running.done()
        await asyncio.sleep(SOON_S)
        assert scheduler.is_ready
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    run(scene())
