"""A wall clock beside the log's time: when it is off, and what is said."""

import pytest
from structlog.testing import capture_logs

from events.append_time import OFF_S_MIN, WallClock, clock_fault


@pytest.mark.parametrize("ahead_s", [0.0, OFF_S_MIN, -OFF_S_MIN])
def test_a_minute_is_not_said(ahead_s: float) -> None:
    assert clock_fault(ahead_s) == ""


@pytest.mark.parametrize(
    ("ahead_s", "way"), [(600.0, "600 s ahead of"), (-90_000.0, "90000 s behind")]
)
def test_more_is_said_once_and_again_when_it_is_over(ahead_s: float, way: str) -> None:
    wall = WallClock("api")
    with capture_logs() as logs:
        for each in (0.0, ahead_s, ahead_s, 0.5):
            wall.measured(each)
            assert wall.is_off == (each == ahead_s)
            assert (way in wall.text()) == wall.is_off
    assert [each["event"] for each in logs] == ["clock.off", "clock.right"]
    assert way in clock_fault(ahead_s)
