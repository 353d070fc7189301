"""A command tries again for a bounded time, more and more slowly, and says so once."""

import pytest

from cli.patience import Patience
from cli.problems import Unreachable


class Clock:
    def __init__(self):
        self.now = 100.0
        self.pauses = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def patience(seconds):
    clock, notes = Clock(), []
    return Patience(seconds, note=notes.append, clock=clock, sleep=clock.sleep), clock, notes


def use_up(waiting):
    for _ in range(1_000):
        waiting.wait(failure())


def failure(retry_after_s=None):
    return Unreachable("http://x", "refused", retry_after_s=retry_after_s)


def test_it_gives_up_after_the_time_allowed():
    waiting, clock, notes = patience(60.0)
    with pytest.raises(Unreachable) as gave_up:
        use_up(waiting)
    assert clock.now == pytest.approx(160.0)
    assert clock.pauses[0] < 0.2
    assert max(clock.pauses) <= 5.0 * 1.25
    assert len(notes) == 1
    assert gave_up.value.exit_code == 9


def test_an_answer_in_between_starts_the_time_anew():
    waiting, clock, notes = patience(10.0)
    for _ in range(3):
        with pytest.raises(Unreachable):
            use_up(waiting)
        waiting.over()
    assert clock.now == pytest.approx(130.0)
    assert notes.count("the server answers again") == 3


def test_the_server_may_ask_for_a_longer_pause():
    waiting, clock, _ = patience(60.0)
    waiting.wait(failure(retry_after_s=7.0))
    assert clock.pauses == [7.0]
