"""Partitions that nobody serves: the API says since when, and tells who sends a command."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.deps import Settings
from api.limits import PARTITION_STALE_S
from api.partitions import PartitionWatch
from events.log import Noted, Partition
from processors.runtime.standing import Standing
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog
from tests.unit.api.lab import TOPICS, Lab, in_lab

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
SLOW = Settings(command_wait_s=30.0)
BODY = {"pool": "lab-a", "selectors": [""], "duration_s": 60}


class Scene:
    """A cluster whose scheduler says what a test lets it say, and a clock by hand."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(TOPICS, partitions=2)
        self.now_s = 0.0
        self.turns = 0
        self.watch = PartitionWatch(
            MemoryLog(self.cluster), TOPICS, self.now, monotonic_s=lambda: self.now_s
        )

    def now(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    def say(self, number: int, **changes: str) -> None:
        self.turns += 1
        say(self.cluster, number, turns=self.turns, **changes)

    async def after(self, seconds: float) -> list[tuple[int, str, float]]:
        """Return what is not served after a while: partition, code, and since when."""
        self.now_s += seconds
        await self.watch.ask()
        return [
            (each.partition, each.code, (each.since - START).total_seconds())
            for each in self.watch.unserved()
        ]


def say(cluster: MemoryCluster, number: int, *, turns: int, **changes: str) -> None:
    """Let a scheduler say how a partition stands."""
    standing = Standing(number, lambda: START, state="serving", turns=turns)
    for name, value in changes.items():
        setattr(standing, name, value)
    text = json.dumps({**standing.told(), "turns": standing.turns})
    notes = cluster.notes.setdefault(TOPICS.scheduler_group, {})
    notes[Partition(TOPICS.commands, number)] = Noted(1, text)


def test_what_is_served_and_what_is_not() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.say(0)
        scene.say(1)
        assert await scene.after(0) == []
        for _ in range(10):
            scene.say(0)
            assert await scene.after(1.4) == [], "nobody is missed at once"
        scene.say(0)
        assert await scene.after(1.1) == [(1, "not_served", 0.0)]
        scene.say(1)
        scene.say(0)
        assert await scene.after(1) == [], "somebody serves it again"

    asyncio.run(scenario())


def test_a_partition_that_stands_still_is_told_at_once_with_its_reason() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.say(0)
        scene.say(1, state="broken", code="journal_broken", detail="at offset 7")
        assert [each[:2] for each in await scene.after(0)] == [(1, "journal_broken")]
        [unserved] = scene.watch.unserved()
        assert "at offset 7" in unserved.told()
        assert scene.watch.of_pools(["lab-a", "lab-b"]).keys() <= {0, 1}

    asyncio.run(scenario())


def test_who_recovers_for_long_does_not_serve() -> None:
    async def scenario() -> None:
        scene = Scene()
        found = []
        for _ in range(9):
            scene.say(0)
            scene.say(1, state="recovering", code="log_unavailable")
            found = await scene.after(2.0)
        assert [each[:2] for each in found] == [(1, "log_unavailable")]

    asyncio.run(scenario())


def test_a_partition_of_which_nobody_ever_spoke_is_not_served_after_a_while() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.say(0)
        assert await scene.after(0) == []
        scene.say(0)
        assert await scene.after(PARTITION_STALE_S + 1) == [(1, "not_served", 0.0)]

    asyncio.run(scenario())


def test_a_log_that_is_away_makes_nobody_unserved() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.say(0)
        scene.say(1)
        await scene.after(0)
        scene.now_s += 1_000.0
        assert scene.watch.unserved() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"state": 7}'])
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        notes = scene.cluster.notes.setdefault(TOPICS.scheduler_group, {})
        for number in (0, 1):
            notes[Partition(TOPICS.commands, number)] = Noted(1, text)
        assert await scene.after(0) == []

    asyncio.run(scenario())


def test_a_command_to_such_a_partition_is_taken_and_that_is_said(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        number = lab.deps.log.partition_for(b"lab-a", lab.cluster.partitions)
        say(
            lab.cluster,
            number,
            turns=1,
            state="broken",
            code="journal_broken",
            detail="offset 7: see `teo journal quarantine-record`",
        )
        watch = lab.app.state.service.partitions
        await watch.ask()
        began_s = asyncio.get_running_loop().time()
        answer = await lab.call("POST", "/v1/reservations", BODY, status=202)
        assert asyncio.get_running_loop().time() - began_s < 5.0, "it is not waited for"
        said = answer.json()["detail"]
        for text in ("pool lab-a", f"partition {number}", "journal_broken", "quarantine-record"):
            assert text in said
        ready = (await lab.call("GET", "/readyz", status=200)).json()
        assert ready["status"] == "degraded"
        check = ready["checks"]["partitions"]
        assert not check["is_ok"]
        assert f"partition {number} is not served since" in check["detail"]
        assert "journal_broken" in check["detail"]

    in_lab(scene, tmp_path, has_scheduler=False, settings=SLOW)


def test_unsafe_topics_are_told_and_the_api_goes_on(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        object.__setattr__(lab.deps, "topics_fault", lambda: "teo.events: it has retention.ms=1")
        ready = (await lab.call("GET", "/readyz", status=200)).json()
        assert (ready["status"], ready["checks"]["topics"]["is_ok"]) == ("degraded", False)
        assert "retention.ms=1" in ready["checks"]["topics"]["detail"]

    in_lab(scene, tmp_path, has_scheduler=False)
