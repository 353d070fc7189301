"""What is too big for the log stops no partition: an input is set aside, a snapshot left out."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from structlog.testing import capture_logs
from structlog.typing import EventDict

from events.codec import decode, decode_event
from events.commands import Command, ReplayDeadLetter
from events.dlq import DeadLetter
from events.log import Outgoing
from events.topics import OUTPUT_BYTES_MAX, Topics
from processors.runtime.log_time import Clock
from processors.runtime.owner import BACKOFF_S_MAX, Owner
from processors.runtime.service import Scheduler
from tests.on_log import command_of
from tests.sim.loop import run
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog
from tests.unit.processors.scheduler.history import benches, reserve

TOPICS = Topics("t")
SOON_S = 30.0
"""Of virtual time."""
SNAPSHOTS_NEVER = 1_000_000


class Scene:
    """A scheduler of one partition, and who writes to it."""

    def __init__(self, logs: list[EventDict], snapshot_every: int) -> None:
        self.logs = logs
        self.cluster = MemoryCluster(topics=TOPICS, partitions=1)
        clock = Clock(now=self.cluster.now, monotonic_s=asyncio.get_running_loop().time)
        self.scheduler = Scheduler(
            MemoryLog(self.cluster),
            TOPICS,
            clock,
            NoOpMeterProvider().get_meter("t"),
            snapshot_every=snapshot_every,
        )

    def put(self, *values: bytes, topic: str = TOPICS.commands) -> None:
        """Write inputs at once, so that they are one batch. Others than we may write anything."""
        for value in values:
            self.cluster.put(Outgoing(topic=topic, key=b"lab", value=value))
        self.cluster.wake()

    def command(self, name: str, body: Command) -> bytes:
        return command_of(name, body, issued_at=self.cluster.now())

    def bench(self, name: str) -> bytes:
        return self.command(f"c-{name}", benches(name))

    def known(self) -> list[str]:
        owner = self.scheduler.owners[0]
        pools = owner.ledger.pools if owner.ledger is not None else {}
        return list(pools["lab"].benches) if pools else []

    def letters(self) -> list[DeadLetter]:
        return [decode(record.value) for record in self.cluster.records(TOPICS.dlq, 0)]

    def count(self, event: str) -> int:
        return sum(each["event"] == event for each in self.logs)


def play(
    scene: Callable[[Scene], Awaitable[None]], *, snapshot_every: int = SNAPSHOTS_NEVER
) -> None:
    async def whole(logs: list[EventDict]) -> None:
        given = Scene(logs, snapshot_every)
        task = asyncio.create_task(given.scheduler.run())
        try:
            await asyncio.sleep(SOON_S)
            await scene(given)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with capture_logs() as logs:
        run(whole(logs))


def test_bytes_of_any_length_that_nobody_can_read_are_set_aside() -> None:
    async def scene(given: Scene) -> None:
        long = bytes(20_000_000)
        given.put(given.bench("b1"), bytes(1_048_000), long, given.bench("b2"))
        await asyncio.sleep(SOON_S)
        assert given.known() == ["b1", "b2"]
        first, second = given.letters()
        assert (first.value, first.whole_bytes) == (bytes(1_048_000), None)
        assert second.whole_bytes == len(long)
        assert second.whole_sha256 == sha256(long).hexdigest()
        assert given.count("partition.recovered") == 1, "nothing of it was ever refused"

    play(scene)


def big(given: Scene, name: str) -> bytes:
    """Return a command that leads to a fact bigger than the journal takes."""
    reason = "r" * (OUTPUT_BYTES_MAX + 1)
    return given.command(name, ReplayDeadLetter(letter_id="0-0", reason=reason))


def test_an_input_whose_decision_is_too_big_is_set_aside_and_no_other() -> None:
    async def scene(given: Scene) -> None:
        given.put(
            given.bench("b1"),
            big(given, "c-big"),
            given.bench("b2"),
            big(given, "c-bigger"),
            given.bench("b3"),
        )
        await asyncio.sleep(SOON_S)
        assert given.known() == ["b1", "b2", "b3"]
        assert [letter.source_offset for letter in given.letters()] == [1, 3]
        for letter in given.letters():
            assert letter.error.startswith("RecordTooBig: t.events does not take ")
            assert letter.whole_bytes is not None
        owner = given.scheduler.owners[0]
        assert (owner._doubted, owner._poison) == (set(), {}), "what is decided is not remembered"
        # A fact each, and each command that was good once.
        events = [decode_event(r.value) for r in given.cluster.records(TOPICS.events, 0)]
        kinds = [type(event.body).__name__ for event in events]
        assert kinds[0] == "TopicsBound"
        assert kinds[1:] == ["BenchRegistered", "InputSetAside"] * 2 + ["BenchRegistered"]
        first = given.cluster.records(TOPICS.commands, 0)[0]
        assert events[0].meta.occurred_at == first.timestamp, "no time was known before it"

    play(scene)


def test_time_goes_on_while_inputs_are_taken_one_by_one() -> None:
    async def scene(given: Scene) -> None:
        given.put(given.bench("b1"), given.command("c-r", reserve("r1", wait_timeout_s=1.0)))
        given.scheduler.owners[0]._doubted.add((TOPICS.commands, 999))
        for number in range(20):
            given.put(given.bench(f"n{number}"))
            await asyncio.sleep(0.1)
        kinds = [
            type(decode_event(record.value).body).__name__
            for record in given.cluster.records(TOPICS.events, 0)
        ]
        assert "ReservationCancelled" in kinds

    play(scene)


def test_no_input_is_blamed_for_what_time_brings() -> None:
    async def scene(given: Scene) -> None:
        long = replace(reserve("r1", wait_timeout_s=5.0), reservation_id="r" * 5_000)
        given.put(given.bench("b1"), given.command("c-r", long))
        await asyncio.sleep(1)
        given.cluster.bytes_max[TOPICS.events] = 4_000
        given.cluster.faults.latency_s = 0.5  # So that time comes while inputs are on trial.
        await asyncio.sleep(10)
        for number in range(0, 200, 5):
            given.put(*(given.bench(f"n{number + each}") for each in range(5)))
            await asyncio.sleep(3)
        given.cluster.bytes_max.clear()
        await asyncio.sleep(2 * SOON_S)
        assert given.count("partition.record_too_big") > 0, "time alone was refused"
        assert given.count("partition.batch_too_big") > 2, "time was, together with inputs"
        assert given.letters() == []
        assert given.known() == ["b1", *(f"n{number}" for number in range(200))]

    play(scene)


def test_a_snapshot_that_is_too_big_is_no_fault_of_an_input() -> None:
    async def scene(given: Scene) -> None:
        given.cluster.bytes_max[TOPICS.snapshots] = 10
        for number in range(5):
            given.put(given.bench(f"b{number}"))
            await asyncio.sleep(1)
        await asyncio.sleep(SOON_S)
        assert given.known() == [f"b{number}" for number in range(5)]
        assert given.letters() == []
        assert given.count("snapshot.refused") > 1
        assert given.count("partition.record_too_big") == 0

    play(scene, snapshot_every=1)


@pytest.mark.parametrize("fault", ["time", "letter"])
def test_what_nobody_can_be_blamed_for_is_said_and_tried_again_at_leisure(fault: str) -> None:
    async def scene(given: Scene) -> None:
        given.put(given.bench("b1"))
        await asyncio.sleep(1)
        if fault == "time":
            given.put(given.command("c-r", reserve("r1", wait_timeout_s=60.0)))
            await asyncio.sleep(1)
            given.cluster.bytes_max[TOPICS.events] = 10
            await asyncio.sleep(timedelta(minutes=2).total_seconds())
        else:
            given.cluster.bytes_max[TOPICS.dlq] = 10
            given.put(b"garbage")
            await asyncio.sleep(timedelta(minutes=1).total_seconds())
        tries = given.count("partition.record_too_big")
        assert 5 < tries <= 60 / BACKOFF_S_MAX + 1
        assert given.count("partition.recovered") < 2 * tries + 5
        said = [each for each in given.logs if each["event"] == "partition.record_too_big"]
        assert "does not take" in said[0]["error"]
        assert said[0]["log_level"] == "critical"
        # Somebody raises the limit.
        given.cluster.bytes_max.clear()
        await asyncio.sleep(SOON_S)
        given.put(given.bench("b2"))
        await asyncio.sleep(SOON_S)
        assert given.known() == ["b1", "b2"]
        assert len(given.letters()) == (fault == "letter")
        assert given.count("partition.record_too_big") == tries

    play(scene)


def test_an_input_that_raises_is_forgotten_once_it_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from processors.scheduler import core

    honest = core.handle

    def raising(ledger: object, message: object) -> object:
        if message.message.meta.command_id == "c-b2":  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return honest(ledger, message)  # type: ignore[arg-type]

    monkeypatch.setattr(core, "handle", raising)

    async def scene(given: Scene) -> None:
        given.put(*(given.bench(f"b{number}") for number in (1, 2, 3)))
        await asyncio.sleep(SOON_S)
        assert given.known() == ["b1", "b3"]
        (letter,) = given.letters()
        assert letter.error.startswith("ZeroDivisionError")
        owner: Owner = given.scheduler.owners[0]
        assert owner._poison == {}

    play(scene)
