"""Log time: told by stamps, measured by the monotonic clock, whatever the clocks do."""

from datetime import UTC, datetime, timedelta

import pytest

from processors.runtime.log_time import (
    DRIFT_RATE,
    DRIFT_S,
    JUMP_S_MIN,
    LogTime,
    Stamp,
    tell,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR_S = 3600.0


class Machine:
    """An owner's machine, and brokers whose clocks are set by hand."""

    def __init__(self) -> None:
        self.monotonic_s = 100.0
        self.time = LogTime()
        self.off_s = {"commands": 0.0, "reports": 0.0}

    @property
    def now(self) -> datetime:
        return self.time.now(self.monotonic_s)

    def true(self) -> datetime:
        """Return what a clock says that is never set."""
        return NOON + timedelta(seconds=self.monotonic_s - 100.0)

    def read(
        self, topic: str = "reports", *, waited_s: float = 0.0, floor_s: float | None = 0.3
    ) -> tuple[datetime, float]:
        """Read a record that waited so long, `floor_s` after the topic was read to its end."""
        stamp_s = self.true().timestamp() + self.off_s[topic] - waited_s
        told = tell(
            self.time,
            Stamp(
                topic=topic,
                stamp_s=stamp_s,
                read_s=self.monotonic_s,
                floor_s=None if floor_s is None else self.monotonic_s - floor_s,
            ),
        )
        self.time = told.time
        return datetime.fromtimestamp(told.at_s, UTC), told.jump_s

    def sure(self) -> "Machine":
        """Return it once both topics were read live."""
        for topic in self.off_s:
            assert self.read(topic)[1] == 0.0
        assert self.time.is_sure
        return self


def test_before_the_first_record_nothing_is_due() -> None:
    assert LogTime().now(107.0) == datetime.fromtimestamp(0.0, UTC)


def test_time_goes_on_from_a_record_by_the_monotonic_clock() -> None:
    machine = Machine()
    machine.read(floor_s=None)
    machine.monotonic_s += 2.5
    assert machine.now == NOON + timedelta(seconds=2.5)


def test_a_record_that_waited_does_not_turn_time_back_and_has_its_own_time() -> None:
    machine = Machine().sure()
    machine.monotonic_s += 400.0
    at, jump_s = machine.read(waited_s=300.0, floor_s=390.0)
    assert (at, jump_s) == (NOON + timedelta(seconds=100), 0.0)
    assert machine.now == NOON + timedelta(seconds=400)


def test_a_fresh_record_after_a_backlog_brings_the_time() -> None:
    """Of a takeover: nobody measured what passed since the last fact."""
    machine = Machine()
    machine.time = machine.time.goes_on_from(NOON - timedelta(hours=5), machine.monotonic_s)
    assert machine.read(waited_s=HOUR_S, floor_s=None) == (NOON - timedelta(hours=1), 0.0)
    assert not machine.time.is_sure
    assert machine.read() == (NOON, 0.0)
    assert machine.time.is_sure


def test_after_a_takeover_behind_a_clock_that_was_set_back_time_goes_on_from_the_last_fact() -> (
    None
):
    machine = Machine()
    ahead = NOON + timedelta(hours=25)
    machine.time = machine.time.goes_on_from(ahead, machine.monotonic_s)
    machine.monotonic_s += 10.0
    at, jump_s = machine.read()
    assert (at, jump_s) == (ahead + timedelta(seconds=9.7), 0.0)
    machine.monotonic_s += 10.0
    at, _ = machine.read()
    assert at == ahead + timedelta(seconds=19.7)


@pytest.mark.parametrize("hours", [2, 25])
def test_a_jump_forward_is_named_and_log_time_follows(hours: int) -> None:
    machine = Machine().sure()
    machine.monotonic_s += 5.0
    machine.off_s = dict.fromkeys(machine.off_s, hours * HOUR_S)
    at, jump_s = machine.read()
    assert jump_s == pytest.approx(hours * HOUR_S)
    assert at == machine.now == NOON + timedelta(hours=hours, seconds=5)
    machine.monotonic_s += 1.0
    assert machine.read("commands") == (machine.true() + timedelta(hours=hours), 0.0)


@pytest.mark.parametrize("hours", [2, 25])
def test_a_jump_back_is_named_and_log_time_goes_on(hours: int) -> None:
    machine = Machine().sure()
    machine.monotonic_s += 50.0
    machine.off_s = dict.fromkeys(machine.off_s, -hours * HOUR_S)
    at, jump_s = machine.read(floor_s=0.3)
    assert jump_s == pytest.approx(-hours * HOUR_S, abs=0.5)
    assert at == machine.true() - timedelta(seconds=0.3)
    machine.monotonic_s += 50.0
    at, jump_s = machine.read()
    assert jump_s == 0.0
    assert machine.true() - timedelta(seconds=0.31) <= at <= machine.now
    assert machine.now == machine.true()


def test_a_clock_that_is_set_right_again_leaves_nothing() -> None:
    machine = Machine().sure()
    for off_s, named in ((-25 * HOUR_S, True), (0.0, False), (-25 * HOUR_S, True)):
        machine.monotonic_s += 50.0
        machine.off_s = dict.fromkeys(machine.off_s, off_s)
        assert (machine.read()[1] < 0) == named
        assert machine.now == machine.true()


def test_forward_and_back_is_a_jump_of_each_way_and_time_goes_on() -> None:
    machine = Machine().sure()
    machine.off_s = dict.fromkeys(machine.off_s, 2 * HOUR_S)
    machine.monotonic_s += 5.0
    assert machine.read()[1] == pytest.approx(2 * HOUR_S)
    machine.monotonic_s += 5.0
    machine.off_s = dict.fromkeys(machine.off_s, 0.0)
    assert machine.read()[1] == pytest.approx(-2 * HOUR_S, abs=0.5)
    assert machine.now == machine.true() + timedelta(hours=2)


def test_of_one_jump_each_of_two_topics_tells_once() -> None:
    machine = Machine().sure()
    machine.monotonic_s += 5.0
    machine.off_s = dict.fromkeys(machine.off_s, 2 * HOUR_S)
    assert machine.read("commands")[1] > 0
    # Read in the same poll, appended before the jump, and after the end that was known.
    machine.off_s["reports"] = 0.0
    assert machine.read("reports", waited_s=0.1)[1] == 0.0
    machine.off_s["reports"] = 2 * HOUR_S
    machine.monotonic_s += 5.0
    assert machine.read("reports")[1] == 0.0
    assert machine.read("commands")[1] == 0.0


def test_two_brokers_with_different_clocks_are_no_jump() -> None:
    machine = Machine()
    machine.off_s["commands"] = 50.0
    assert machine.read("commands") == (NOON + timedelta(seconds=50), 0.0)
    for _ in range(5):
        machine.monotonic_s += 5.0
        for topic in machine.off_s:
            at, jump_s = machine.read(topic)
            assert jump_s == 0.0
            assert machine.now - timedelta(seconds=0.31) <= at <= machine.now


def test_a_leader_that_moves_to_another_clock_shifts_stamps_and_no_deadline() -> None:
    machine = Machine().sure()
    for off_s in (JUMP_S_MIN - 5.0, 0.0, JUMP_S_MIN - 5.0, 3.0):
        machine.monotonic_s += 5.0
        machine.off_s["commands"] = off_s
        at, jump_s = machine.read("commands")
        assert jump_s == 0.0
        assert machine.true() - timedelta(seconds=0.31) <= at <= machine.now == machine.true()


def test_small_steps_add_up_to_a_jump() -> None:
    machine = Machine().sure()
    named = []
    for _ in range(4):
        machine.monotonic_s += 5.0
        machine.off_s["reports"] += 20.0
        named.append(round(machine.read()[1]))
    assert named == [0, 40, 0, 40]
    assert machine.now == machine.true() + timedelta(seconds=80)


def test_drift_is_followed_without_a_name() -> None:
    machine = Machine().sure()
    for _ in range(200):
        machine.monotonic_s += 60.0
        machine.off_s = {topic: off_s + 0.2 for topic, off_s in machine.off_s.items()}
        assert machine.read()[1] == 0.0
    assert machine.now == machine.true() + timedelta(seconds=40)


@pytest.mark.parametrize("rate", [1.01, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("beat_s", [0.1, 1.0, 7.0])
def test_a_clock_that_runs_too_fast_is_named_and_shortens_nothing(
    rate: float, beat_s: float
) -> None:
    """However small its steps are: they add up."""
    machine = Machine().sure()
    beats, named_s = int(1_200.0 / beat_s), 0.0
    lasted_s = beats * beat_s
    for _ in range(beats):
        machine.monotonic_s += beat_s
        machine.off_s = {topic: off + (rate - 1.0) * beat_s for topic, off in machine.off_s.items()}
        named_s += machine.read()[1]
    unnamed_s = (machine.now - machine.true()).total_seconds() - named_s
    assert unnamed_s <= DRIFT_S + DRIFT_RATE * lasted_s + 0.001
    assert (rate - 1.0) * lasted_s - named_s - unnamed_s <= JUMP_S_MIN


def test_a_backlog_is_never_called_a_clock_that_went_back() -> None:
    machine = Machine().sure()
    machine.monotonic_s += 4 * HOUR_S
    at, jump_s = machine.read(waited_s=3 * HOUR_S, floor_s=None)
    assert (at, jump_s) == (machine.true() - timedelta(hours=3), 0.0)


def test_a_jump_while_it_could_not_read_is_named_all_the_same() -> None:
    machine = Machine().sure()
    machine.monotonic_s += 60.0
    machine.off_s = dict.fromkeys(machine.off_s, 2 * HOUR_S)
    assert machine.read(waited_s=20.0, floor_s=None)[1] == pytest.approx(2 * HOUR_S - 20.0)
    assert machine.read(floor_s=None)[1] == 0.0
    # By as much as that one had waited, the stamps stay ahead of what is measured.
    assert machine.now == machine.true() + timedelta(hours=2, seconds=-20)
