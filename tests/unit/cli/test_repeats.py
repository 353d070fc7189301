"""What a library says over and over is written now and then, with how often it was not."""

import logging

from cli.repeats import REPEAT_S, TEXTS_MAX, Repeats


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def record(text, *args, level=logging.WARNING):
    return logging.LogRecord("aiokafka", level, __file__, 1, text, args, None)


def test_the_same_text_is_let_through_once_in_a_while():
    clock = Clock()
    repeats = Repeats(clock=clock)
    assert repeats.filter(record("no node %s", 1))
    assert [repeats.filter(record("no node %s", 1)) for _ in range(3)] == [False] * 3
    assert repeats.filter(record("no node %s", 2)), "another text"
    assert repeats.filter(record("no node %s", 1, level=logging.ERROR)), "another level"
    clock.now += REPEAT_S
    again = record("no node %s", 1)
    assert repeats.filter(again)
    assert again.held_back == 3
    assert not repeats.filter(record("no node %s", 1))


def test_ever_new_texts_cost_no_memory():
    repeats = Repeats(clock=Clock())
    assert all(repeats.filter(record("n %s", n)) for n in range(3 * TEXTS_MAX))
    assert len(repeats._said) == TEXTS_MAX
    assert repeats.filter(record("n %s", 0)), "the oldest is forgotten"
    assert not repeats.filter(record("n %s", 3 * TEXTS_MAX - 1))
