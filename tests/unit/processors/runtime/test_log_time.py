"""Log time: told by records, carried on by the monotonic clock, deaf to jumps of the wall clock."""

from datetime import UTC, datetime, timedelta

from processors.runtime.log_time import LogTime

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Machine:
    """A machine whose clock is set by hand."""

    def __init__(self) -> None:
        self.monotonic_s = 100.0
        self.time = LogTime(lambda: self.monotonic_s)


def test_before_the_first_record_nothing_is_due() -> None:
    machine = Machine()
    machine.monotonic_s += 7.0
    assert machine.time.now() == datetime.fromtimestamp(7.0, UTC)


def test_time_goes_on_from_a_record_by_the_monotonic_clock() -> None:
    machine = Machine()
    machine.time.saw(NOON + timedelta(hours=1))
    machine.monotonic_s += 2.5
    assert machine.time.now() == NOON + timedelta(hours=1, seconds=2.5)


def test_a_record_that_waited_does_not_turn_time_back() -> None:
    machine = Machine()
    machine.time.saw(NOON)
    machine.monotonic_s += 10.0
    machine.time.saw(NOON - timedelta(minutes=5))
    assert machine.time.now() == NOON + timedelta(seconds=10)


def test_a_fresh_record_after_a_backlog_brings_the_time() -> None:
    machine = Machine()
    machine.time.saw(NOON - timedelta(hours=1))
    machine.time.saw(NOON)
    assert machine.time.now() == NOON
