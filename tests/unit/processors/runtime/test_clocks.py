"""An owner whose brokers' clocks are set: through its failures, through takeovers, named once."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from events import facts
from events.commands import ExtendReservation
from events.errors import LogUnavailable
from events.reports import WorkerHeartbeat
from tests.sim.memory_log import MemoryWriter
from tests.unit.processors.runtime.test_outage import TOPICS, Lab, play
from tests.unit.processors.scheduler.history import benches, names, reserve, started

HOUR_S = 3600.0
LEASE_S = 120.0


async def beating(lab: Lab, seconds: float) -> list[str]:
    """Let the worker be heard for a while; return what is new on the journal."""
    known = len(lab.events())
    for _ in range(int(seconds / 2.0)):
        lab.report(WorkerHeartbeat(running=()))
        await asyncio.sleep(2.0)
    return names(lab.events()[known:])


async def leased(lab: Lab) -> None:
    """Have a lease granted by an owner that measures the time."""
    lab.start()
    lab.ask(benches("b1"))
    lab.report(started(slots=1, benches=("b1",)))
    await beating(lab, 10.0)
    lab.ask(reserve("r1", duration_s=LEASE_S))
    assert "ReservationGranted" in await beating(lab, 4.0)


def jumps(lab: Lab) -> list[facts.ClockJumped]:
    return [event for event in lab.events() if isinstance(event, facts.ClockJumped)]


@pytest.mark.parametrize("hours", [2, 25, -2, -25])
def test_a_lease_lasts_as_long_as_was_asked_and_the_jump_is_named_once(hours: int) -> None:
    async def scene(lab: Lab) -> None:
        await leased(lab)
        with capture_logs() as logs:
            lab.cluster.clock_ahead_s += hours * HOUR_S
            assert "ReservationExpired" not in await beating(lab, LEASE_S - 10.0)
            assert "ReservationExpired" in await beating(lab, 12.0)
        (jumped,) = jumps(lab)
        assert (jumped.source, round(jumped.by_s / HOUR_S, 3)) == (TOPICS.reports, hours)
        assert ("jumped forward" if hours > 0 else "jumped back") in jumped.reason
        said = [each for each in logs if each["event"] == "clock.jumped"]
        assert [(each["log_level"], each["topic"]) for each in said] == [
            ("warning", TOPICS.reports)
        ]

    play(scene)


@pytest.mark.parametrize("seconds", [30.0, 600.0])
def test_a_lease_that_is_granted_after_a_clock_went_back_is_not_cut_by_idle_time(
    seconds: float,
) -> None:
    async def scene(lab: Lab) -> None:
        await leased(lab)
        await beating(lab, LEASE_S + 4.0)
        lab.cluster.clock_ahead_s -= 2 * HOUR_S
        await beating(lab, seconds)  # Nothing is decided meanwhile.
        lab.ask(reserve("r2", duration_s=LEASE_S))
        assert "ReservationExpired" not in await beating(lab, LEASE_S - 4.0)
        assert "ReservationExpired" in await beating(lab, 10.0)

    play(scene)


def failing(how: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a commit that fails once it has a jump to write: `lost`, or written `unknown`."""
    commit = MemoryWriter.commit
    failures = iter([True, True])

    async def fail(self: MemoryWriter, records: Any) -> Any:
        is_jump = any(each.headers.get("ce_type") == b"ClockJumped" for each in records)
        if is_jump and next(failures, False):
            if how == "unknown":
                await commit(self, records)
            raise LogUnavailable(f"commit: {how}")
        return await commit(self, records)

    return fail


@pytest.mark.parametrize("how", ["lost", "unknown"])
@pytest.mark.parametrize("hours", [2, -2])
def test_a_jump_whose_decision_fails_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, how: str, hours: int
) -> None:
    async def scene(lab: Lab) -> None:
        await leased(lab)
        monkeypatch.setattr(MemoryWriter, "commit", failing(how))
        lab.cluster.clock_ahead_s += hours * HOUR_S
        assert "ReservationExpired" not in await beating(lab, LEASE_S - 12.0)
        assert "ReservationExpired" in await beating(lab, 16.0)
        assert len([each for each in jumps(lab) if each.by_s > 0]) == (hours > 0)

    play(scene)


def test_who_takes_over_after_a_jump_that_was_named_goes_on_with_it() -> None:
    async def scene(lab: Lab) -> None:
        await leased(lab)
        lab.cluster.clock_ahead_s += 2 * HOUR_S
        await beating(lab, 10.0)
        await lab.stop()
        lab.start()
        assert "ReservationExpired" not in await beating(lab, LEASE_S - 20.0)
        assert "ReservationExpired" in await beating(lab, 12.0)
        assert len(jumps(lab)) == 1

    play(scene)


def test_a_jump_while_nobody_owned_the_partition_is_like_an_outage() -> None:
    """Nobody measured: a gap in the stamps is a jump or a time in which nobody wrote."""

    async def scene(lab: Lab) -> None:
        await leased(lab)
        await lab.stop()
        lab.cluster.clock_ahead_s += 2 * HOUR_S
        lab.start()
        assert "ReservationExpired" in await beating(lab, 10.0)
        assert jumps(lab) == []

    play(scene)


def test_who_takes_over_behind_a_clock_that_went_back_measures_on() -> None:
    async def scene(lab: Lab) -> None:
        await leased(lab)
        lab.cluster.clock_ahead_s -= 2 * HOUR_S
        await beating(lab, 10.0)
        await lab.stop()
        lab.start()
        await beating(lab, 10.0)
        lab.ask(ExtendReservation(reservation_id="r1", duration_s=LEASE_S))
        assert "ReservationExpired" not in await beating(lab, 2 * LEASE_S - 30.0)
        assert "ReservationExpired" in await beating(lab, 20.0)

    play(scene)


def test_a_pause_of_the_owner_is_no_jump() -> None:
    """Its monotonic clock went on: what came meanwhile came when its stamp says."""

    async def scene(lab: Lab) -> None:
        await leased(lab)
        lab.log.pause(60.0)
        await beating(lab, 90.0)
        assert jumps(lab) == []
        assert "ReservationExpired" in await beating(lab, LEASE_S - 85.0)

    play(scene)


def test_the_scheduler_says_when_its_own_clock_is_off() -> None:
    async def scene(lab: Lab) -> None:
        right = lab.clock.now
        lab.clock = replace(lab.clock, now=lambda: right() + timedelta(hours=1))
        with capture_logs() as logs:
            await leased(lab)
        assert [each["event"] for each in logs].count("clock.off") == 1
        assert lab.clock.wall.ahead_s == pytest.approx(3_600.0, abs=1.0)

    play(scene)
