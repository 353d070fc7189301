"""The workers of one process: what one of them cannot do keeps no other from serving."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from events.errors import TeoError
from processors.worker.fences import FenceFell
from processors.worker.pool_workers import PoolWorkers
from processors.worker.state_dir import StateUnreadable
from tests.unit.processors.worker.lab import play


class FakeWorker:
    """Serves until it is drained, or breaks at once."""

    def __init__(self, error: TeoError | None) -> None:
        self._error = error
        self._asked = asyncio.Event()
        self.is_registered = False

    async def run(self) -> None:
        await asyncio.sleep(0.1)
        if self._error is not None:
            raise self._error
        self.is_registered = True
        await self._asked.wait()
        self.is_registered = False

    def drain(self, reason: str = "") -> None:
        self._asked.set()


class Fleet:
    """Pools, those of them that are broken, and what was made."""

    def __init__(self, *, may_grow: bool = False) -> None:
        self.broken: dict[str, TeoError] = {}
        self.made: list[tuple[str, bool]] = []
        self.workers = PoolWorkers(self._make, may_grow=may_grow)

    def _make(self, pool: str, is_first: bool) -> FakeWorker:
        self.made.append((pool, is_first))
        return FakeWorker(self.broken.get(pool))


def serving(fleet: Fleet, *pools: str, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with asyncio.TaskGroup() as group:
            for pool in pools:
                group.create_task(fleet.workers.serve(pool))
            await scene()
            fleet.workers.drain()

    play(whole)


NOT_READABLE = StateUnreadable("state folder /x: no")


def test_the_others_go_on_and_the_broken_one_is_said_and_tried_again() -> None:
    fleet = Fleet()
    fleet.broken["bad"] = NOT_READABLE

    async def scene() -> None:
        await asyncio.sleep(1)
        assert fleet.workers.faults() == {"bad": "state_unreadable: state folder /x: no"}
        assert not fleet.workers.is_ready
        assert fleet.made == [("good", True), ("bad", True)]
        await asyncio.sleep(20)
        assert fleet.made[2:] == [("bad", False)] * 3, "after 2, 4 and 8 s"
        del fleet.broken["bad"]
        await asyncio.sleep(20)
        assert fleet.workers.is_ready
        assert fleet.workers.faults() == {}

    serving(fleet, "good", "bad", scene=scene)
    assert fleet.workers.all_left.is_set()


def test_a_process_in_which_no_pool_can_be_served_ends_with_the_error() -> None:
    fleet = Fleet()
    fleet.broken = {"a": NOT_READABLE, "b": NOT_READABLE}

    async def scene() -> None:
        await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as raised:
        serving(fleet, "a", "b", scene=scene)
    assert raised.value.subgroup(StateUnreadable) is not None
    assert [pool for pool, _ in fleet.made] == ["a", "b"], "at once"


def test_pools_that_are_still_found_get_their_chance() -> None:
    fleet = Fleet(may_grow=True)
    fleet.broken["bad"] = NOT_READABLE

    async def scene() -> None:
        await asyncio.sleep(1)
        late = asyncio.create_task(fleet.workers.serve("late"))
        await asyncio.sleep(30)
        assert list(fleet.workers.faults()) == ["bad"]
        fleet.workers.drain()
        await late

    serving(fleet, "bad", scene=scene)


def test_a_pool_whose_fences_fell_is_not_tried_again_beside_others() -> None:
    fleet = Fleet()
    fleet.broken["bad"] = FenceFell("bench b was given with fence 1")

    async def scene() -> None:
        await asyncio.sleep(1_000)
        assert [pool for pool, _ in fleet.made] == ["good", "bad"]

    serving(fleet, "good", "bad", scene=scene)
