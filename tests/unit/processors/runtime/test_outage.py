"""An owner that comes back after an outage: what is unread counts before the time that passed."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from structlog.testing import capture_logs

from events import facts
from events.codec import decode_event, encode
from events.commands import Command, ExtendReservation
from events.errors import LogUnavailable
from events.facts import Event
from events.log import Outgoing, Partition, Position
from events.message import Message
from events.reports import AttemptEnded, Report, WorkerHeartbeat
from events.shared import AttemptRef, ReportMeta, Totals
from events.topics import Topics
from processors.runtime import owner as owner_module
from processors.runtime.log_time import Clock
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Owner
from processors.runtime.recovery import recover
from tests.on_log import asked
from tests.sim.loop import run
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog, MemoryWriter
from tests.unit.processors.scheduler.history import RUN, benches, names, reserve, started, submit

TOPICS = Topics("t")
BEAT_S = 2.0
SLOW_S = 1.0
"""Longest delay of a broker that many come back to at once."""


class Lab:
    """A partition on the log in memory, and whoever writes to it."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(topics=TOPICS, partitions=1)
        self.clock = Clock(now=self.cluster.now, monotonic_s=asyncio.get_running_loop().time)
        self.log = MemoryLog(self.cluster)
        self._ids = count()
        self._task: asyncio.Task[None] | None = None

    def start(self, **settings: Any) -> Owner:
        metrics = runtime_metrics(NoOpMeterProvider().get_meter("t"))
        owner = Owner(self.log, TOPICS, 0, self.clock, metrics, **settings)
        self._task = asyncio.create_task(owner.run())
        return owner

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def put(self, record: Outgoing) -> None:
        self.cluster.put(record)
        self.cluster.wake()

    def ask(self, body: Command) -> None:
        record = asked(TOPICS, f"c{next(self._ids)}", body)
        self.put(record)

    def report(self, body: Report, worker: str = "w1") -> None:
        meta = ReportMeta(
            report_id=f"r{next(self._ids)}",
            pool="lab",
            worker=worker,
            epoch=1,
            sent_at=self.cluster.now(),
            correlation_id="",
            traceparent="",
        )
        self.put(Outgoing(topic=TOPICS.reports, key=b"lab", value=encode(Message(meta, body))))

    def events(self) -> list[Event]:
        return [decode_event(each.value).body for each in self.cluster.records(TOPICS.events, 0)]

    async def settled(self, seconds: float = 5.0) -> list[Event]:
        """Return what is new on the journal after a while."""
        known = len(self.events())
        await asyncio.sleep(seconds)
        return self.events()[known:]


def play(scene: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        lab = Lab()
        await scene(lab)
        await lab.stop()

    run(whole())


def passed(name: str) -> AttemptEnded:
    return AttemptEnded(
        execution_id=name,
        attempt=1,
        fence=1,
        verdict="passed",
        code="passed",
        reason="",
        totals=Totals(passed=1, failed=0, errors=0, skipped=0),
        artifacts=(),
        is_retriable=False,
        teardown_error="",
    )


def test_an_attempt_that_passed_while_nobody_decided_has_passed() -> None:
    async def scene(lab: Lab) -> None:
        lab.start()
        lab.ask(benches("b1"))
        lab.report(started(slots=1, benches=("b1",)))
        lab.ask(submit("e1", run=replace(RUN, timeout_s=300.0), retries=0))
        assert "ExecutionAssigned" in names(await lab.settled())
        await lab.stop()
        end_s = lab.clock.monotonic_s() + 1_200.0
        while (now_s := lab.clock.monotonic_s()) < end_s:
            running = (AttemptRef(execution_id="e1", attempt=1),) if now_s < 300.0 else ()
            lab.report(WorkerHeartbeat(running=running))
            if 300.0 <= now_s < 300.0 + BEAT_S:
                lab.report(passed("e1"))
            for number in range(20):  # More than one batch of what others say.
                lab.report(WorkerHeartbeat(running=()), f"other-{number}")
            await asyncio.sleep(BEAT_S)
        lab.ask(submit("e2"))
        lab.cluster.faults.latency_s = SLOW_S
        lab.start()
        (end,) = [e for e in await lab.settled(120.0) if isinstance(e, facts.ExecutionFinished)]
        assert (end.execution_id, end.verdict) == ("e1", "passed")

    play(scene)


@pytest.mark.parametrize("seed", range(4))
def test_a_lease_that_was_extended_while_nobody_decided_goes_on(seed: int) -> None:
    """In whichever order a broker hands the topics out."""

    async def scene(lab: Lab) -> None:
        lab.cluster.random.seed(seed)
        lab.cluster.faults.reorder = 1.0
        lab.start()
        lab.ask(benches("b1"))
        lab.report(started(slots=1, benches=("b1",)))
        lab.ask(reserve("r1", duration_s=60.0))
        assert "ReservationGranted" in names(await lab.settled())
        await lab.stop()
        await asyncio.sleep(45.0)
        lab.ask(ExtendReservation(reservation_id="r1", duration_s=600.0))
        for _ in range(600):  # More than one batch, and the newest of all records.
            lab.report(WorkerHeartbeat(running=()))
            await asyncio.sleep(0.2)
        lab.cluster.faults.latency_s = SLOW_S
        lab.start()
        found = names(await lab.settled(60.0))
        assert "ReservationExtended" in found
        assert "ReservationExpired" not in found

    play(scene)


def test_a_wall_clock_that_is_ahead_expires_nothing() -> None:
    async def scene(lab: Lab) -> None:
        lab.start()
        lab.ask(benches("b1"))
        lab.report(started(slots=1, benches=("b1",)))
        lab.ask(reserve("r1", duration_s=1_800.0))
        assert "ReservationGranted" in names(await lab.settled())
        await lab.stop()
        ahead = lab.cluster.now
        lab.clock = replace(lab.clock, now=lambda: ahead() + timedelta(hours=1))
        lab.start()
        assert "ReservationExpired" not in names(await lab.settled(60.0))

    play(scene)


def test_what_is_due_is_decided_however_busy_the_partition_is() -> None:
    async def scene(lab: Lab) -> None:
        lab.start()
        lab.ask(benches("b1"))
        lab.report(started(slots=1, benches=("b1",)))
        lab.ask(reserve("r1", duration_s=20.0))
        for _ in range(5_000):
            lab.report(WorkerHeartbeat(running=()))
            await asyncio.sleep(0.005)
        assert "ReservationExpired" in names(lab.events())

    play(scene)


def test_a_takeover_reads_few_heartbeats_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "INPUTS_UNMARKED_MAX", 50)

    async def scene(lab: Lab) -> None:
        first = lab.start()
        lab.report(started(slots=1))
        await lab.settled()
        for _ in range(1_000):
            lab.report(WorkerHeartbeat(running=()))
            await asyncio.sleep(0.1)
        await lab.settled()
        told = [event.count for event in lab.events() if isinstance(event, facts.InputsRead)]
        assert 10 <= len(told) <= 20
        folded = await recover(lab.log, Partition(TOPICS.events, 0))
        assert folded == first.ledger
        assert folded.positions[TOPICS.reports] >= 1_000 - 50
        assert sum(told) == folded.positions[TOPICS.reports]

    play(scene)


def test_inputs_that_retention_took_undecided_are_missed_aloud() -> None:
    async def scene(lab: Lab) -> None:
        lab.start()
        lab.ask(benches("b1"))
        await lab.settled()
        await lab.stop()
        for name in ("b2", "b3", "b4"):
            lab.ask(benches(name))
        lab.cluster.delete_before(Partition(TOPICS.commands, 0), 3)
        with capture_logs() as logs:
            lab.start()
            found = await lab.settled()
        assert names(found) == ["InputsReset", "BenchRegistered"]
        assert isinstance(found[0], facts.InputsReset)
        assert (found[0].was_offset, found[0].next_offset) == (1, 3)
        (said,) = [each for each in logs if each["event"] == "partition.inputs_expired"]
        assert (said["topic"], said["first"], said["count"]) == (TOPICS.commands, 1, 2)
        assert said["log_level"] == "critical"
        await lab.stop()
        lab.start()
        assert await lab.settled() == [], "it is said once"

    play(scene)


def test_a_backlog_that_is_too_much_at_once_is_decided_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a broker under load that takes no more in the time a transaction has."""
    commit = MemoryWriter.commit
    sizes: list[int] = []

    async def slow(self: MemoryWriter, records: Sequence[Outgoing]) -> Sequence[Position]:
        sizes.append(len(records))
        if len(records) > 40:
            raise LogUnavailable("commit: TimeoutError()")
        return await commit(self, records)

    monkeypatch.setattr(MemoryWriter, "commit", slow)

    async def scene(lab: Lab) -> None:
        for number in range(200):
            lab.ask(benches(f"b{number}"))
        lab.start()
        assert len(await lab.settled(30.0)) == 1 + 200, "the topics' ids, and a bench each"
        assert max(sizes) == 1 + 200

    play(scene)


def test_an_owner_that_never_gets_through_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def never(self: MemoryWriter, records: Sequence[Outgoing]) -> Sequence[Position]:
        nonlocal tries
        tries += 1
        raise LogUnavailable("commit: TimeoutError()")

    monkeypatch.setattr(MemoryWriter, "commit", never)

    async def scene(lab: Lab) -> None:
        lab.ask(benches("b1"))
        lab.start()
        await lab.settled(300.0)

    play(scene)
    assert 30 < tries < 100
