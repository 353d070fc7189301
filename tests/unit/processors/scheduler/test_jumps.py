"""A clock that jumps ends nothing: what was given for a time lasts as long, measured."""

from dataclasses import replace
from datetime import timedelta

import pytest

from events import facts
from events.commands import ExtendReservation
from events.facts import Event
from events.reports import WorkerHeartbeat
from processors.scheduler import core, evolve, jumps
from processors.scheduler.deadlines import ATTEMPT_GRACE_S, CLEANING_S_MAX
from processors.scheduler.evolve import IDEMPOTENCY_WINDOW
from processors.scheduler.state import Jump, Ledger
from tests.unit.processors.scheduler.history import (
    RUN,
    START,
    History,
    ended,
    lab,
    names,
    reserve,
    started,
    submit,
)

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
JUMPS = [2 * HOUR_S, 25 * HOUR_S]


def lived(history: History, seconds: float) -> list[Event]:
    """Let time pass in small steps, and workers be heard; return what it brought."""
    found: list[Event] = []
    while seconds > 0:
        step_s = min(5.0, seconds)
        for worker in sorted(history.ledger.pools["lab"].workers):
            history.beat(worker=worker)
        found += history.after(step_s)
        seconds -= step_s
    return found


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_lease_lasts_as_long_as_was_asked(jump_s: float) -> None:
    history = lab("b1")
    history.ask(reserve("r1", duration_s=600.0))
    lived(history, 100.0)
    history.jump(jump_s)
    assert "ReservationExpired" not in names(lived(history, 495.0))
    assert "ReservationExpired" in names(lived(history, 10.0))
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_an_extension_adds_what_was_asked(jump_s: float) -> None:
    history = lab("b1")
    history.ask(reserve("r1", duration_s=60.0))
    history.jump(jump_s)
    assert names(history.ask(ExtendReservation(reservation_id="r1", duration_s=60.0))) == [
        "ReservationExtended"
    ]
    assert "ReservationExpired" not in names(lived(history, 115.0))
    assert "ReservationExpired" in names(lived(history, 10.0))
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_healthy_attempt_is_not_overdue(jump_s: float) -> None:
    history = lab("b1")
    history.ask(submit("e1", run=replace(RUN, timeout_s=300.0), retries=0))
    history.jump(jump_s)
    assert lived(history, 300.0 + ATTEMPT_GRACE_S - 10.0) == []
    over = lived(history, 15.0)
    assert [e.code for e in over if isinstance(e, facts.AttemptFinished)] == ["attempt_overdue"]
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_who_waits_waits_as_long(jump_s: float) -> None:
    history = lab("b1")
    history.ask(reserve("r0", duration_s=10_000.0))
    history.ask(reserve("r1", wait_timeout_s=60.0))
    history.ask(submit("e1", wait_timeout_s=60.0))
    lived(history, 30.0)
    history.jump(jump_s)
    assert lived(history, 25.0) == []
    assert sorted(names(lived(history, 10.0))) == ["ExecutionFinished", "ReservationCancelled"]
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_another_try_waits_for_its_pause(jump_s: float) -> None:
    history = lab("b1")
    history.ask(submit("e1", wait_timeout_s=60.0))
    history.report(ended(history, "e1", "error"))
    history.jump(jump_s)
    assert history.after(0.5) == []
    assert "ExecutionAssigned" in names(history.after(1.0))
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_bench_that_is_cleaned_has_its_time(jump_s: float) -> None:
    history = lab("b1")
    history.ask(submit("e1", retries=0))
    history.after(11.0)  # Its worker is lost: another life is asked to clean up.
    history.report(started(), epoch=2)
    assert history.ledger.pools["lab"].benches["b1"].cleaning is not None
    history.jump(jump_s)

    def heard(seconds: float) -> list[Event]:
        found: list[Event] = []
        for _ in range(int(seconds / 5.0)):
            history.report(WorkerHeartbeat(running=()), epoch=2)
            found += history.after(5.0)
        return found

    assert "BenchQuarantined" not in names(heard(CLEANING_S_MAX - 10.0))
    assert "BenchQuarantined" in names(heard(20.0))
    history.check()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_repeat_is_known_for_a_day_that_passed(jump_s: float) -> None:
    history = lab("b1")
    history.ask(submit("e1"), command_id="c1")
    history.jump(jump_s)
    history.ask(reserve("r1"))  # What is forgotten is forgotten by a command.
    assert history.ask(submit("e2"), command_id="c1") == []
    assert "e1" in history.ledger.pools["lab"].executions
    history.check()


def test_the_ended_are_remembered_for_a_day_that_passed() -> None:
    history = lab("b1")
    history.ask(submit("e1"))
    history.report(ended(history, "e1"))
    history.jump(25 * HOUR_S)
    history.ask(submit("e2"))
    history.report(ended(history, "e2"))
    (refused,) = history.ask(submit("e1"))
    assert isinstance(refused, facts.CommandRejected)
    assert refused.code == "already_exists"
    history.check()


def test_a_jump_back_moves_nothing() -> None:
    history = lab("b1")
    history.ask(reserve("r1", duration_s=600.0))
    before = history.ledger.pools["lab"].reservations["r1"].lease_until
    jumped = facts.ClockJumped(source="reports", by_s=-7_200.0, reason="seen")
    history._take(core.clock_jumped(history.ledger, jumped, at=history.ledger.now, pool="lab"))
    assert history.ledger.pools["lab"].reservations["r1"].lease_until == before
    assert history.ledger.jumps == []
    history.check()


def test_a_jump_to_the_end_of_time_stops_no_partition() -> None:
    history = lab("b1")
    history.ask(reserve("r1", duration_s=600.0))
    jumped = facts.ClockJumped(source="reports", by_s=9e11, reason="seen")
    history._take(core.clock_jumped(history.ledger, jumped, at=START, pool="lab"))
    assert history.ledger.pools["lab"].reservations["r1"].lease_until == jumps.LATEST
    history.check()


@pytest.mark.parametrize(
    ("issued_s", "written_s", "aged_s"),
    [
        (-10.0, 5.0, 15.0),  # Before it.
        (90.0, DAY_S + 110.0, 20.0),  # Over it.
        (DAY_S + 110.0, DAY_S + 130.0, 20.0),  # After it.
        (500.0, DAY_S + 130.0, 30.0),  # In it: by a clock of its own.
        (DAY_S + 130.0, 500.0, 500.0 - DAY_S - 130.0),  # The wrong way round.
    ],
)
def test_a_jump_is_no_part_of_anybodys_age(
    issued_s: float, written_s: float, aged_s: float
) -> None:
    """From 100 s to a day and 100 s: no time passed in between."""
    ledger = Ledger(0)
    ledger.jumps = [Jump(START + timedelta(seconds=DAY_S + 100.0), DAY_S)]
    aged = jumps.age(
        ledger, START + timedelta(seconds=issued_s), START + timedelta(seconds=written_s)
    )
    assert aged.total_seconds() == pytest.approx(aged_s)


def key_repeat(history: History, after: str, command_id: str = "c2") -> facts.CommandRejected:
    (refused,) = history.ask(submit("e2"), command_id=command_id, after=after)
    assert isinstance(refused, facts.CommandRejected)
    return refused


def test_a_key_used_again_within_its_window_is_a_repeat_whatever_its_sender_believes() -> None:
    history = lab("b1")
    history.ask(submit("e1"), command_id="c1")
    history.after(23 * HOUR_S)
    refused = key_repeat(history, after="c1")
    assert (refused.code, refused.subject_id) == (core.KEY_REPEAT, "c1")
    assert "e2" not in history.ledger.pools["lab"].executions
    assert history.ask(submit("e2"), command_id="c2", after="c1") == []
    history.check()


def test_a_key_may_be_used_again_after_its_window() -> None:
    """Also where nothing was decided since, so that nothing was forgotten."""
    history = lab("b1")
    history.ask(submit("e1"), command_id="c1")
    history.after(IDEMPOTENCY_WINDOW.total_seconds() + 1.0)
    assert "c1" in history.ledger.known
    assert "ExecutionSubmitted" in names(history.ask(submit("e2"), command_id="c2", after="c1"))
    history.check()


def test_copies_that_were_sent_days_apart_while_nobody_decided_are_one_command() -> None:
    """Their sender was told nothing in between; others sent theirs."""
    history = lab("b1")
    history.ask(submit("e1"), command_id="c1")
    for number in range(3):
        history.after(25 * HOUR_S)
        history.ask(submit(f"other-{number}"))
        assert history.ask(submit(f"copy-{number}"), command_id="c1") == []
    history.check()


def test_commands_are_forgotten_after_a_day_and_once_many_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evolve, "KNOWN_MIN", 2)
    history = lab("b1")
    for number in range(4):
        history.ask(submit(f"e{number}"), command_id=f"c{number}")
    assert "c0" in history.ledger.known
    history.after(25 * HOUR_S)
    history.ask(submit("e4"), command_id="c4")
    assert list(history.ledger.known) == ["c3", "c4"]
    history.check()


def test_a_key_whose_clock_jumped_is_used_again_a_day_later_and_not_before() -> None:
    history = lab("b1")
    history.ask(submit("e1"), command_id="c1")
    history.jump(25 * HOUR_S)
    assert key_repeat(history, after="c1").subject_id == "c1"
    history.after(IDEMPOTENCY_WINDOW.total_seconds() + 1.0)
    assert "ExecutionSubmitted" in names(history.ask(submit("e2"), command_id="c3", after="c1"))
