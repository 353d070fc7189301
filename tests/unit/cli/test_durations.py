"""Durations are read as people write them, and refused with the way to write them."""

import pytest

from cli.durations import humanise, parse, parse_optional
from cli.problems import BadUsage


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h30m", 9_000),
        ("1d", 86_400),
        ("1d2h3m4s", 93_784),
        ("1.5h", 5_400),
        ("250ms", 0.25),
        (" 2H 30M ", 9_000),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert parse(text, name="--duration") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("90", "has no unit"),
        ("", "is no duration"),
        ("soon", "is no duration"),
        ("-5m", "is no duration"),
        ("5x", "is no duration"),
        ("٣m", "is no duration"),
        ("30m2h", "out of order"),
        ("1h1h", "repeats a unit"),
        ("0s", "longer than nothing"),
        ("400d", "at most 366d"),
        ("9" * 400 + "s", "at most 366d"),
    ],
)
def test_what_is_no_duration_is_refused_by_name(text, said):
    with pytest.raises(BadUsage) as refused:
        parse(text, name="--duration")
    assert said in str(refused.value)
    assert str(refused.value).startswith("--duration")
    assert refused.value.exit_code == 2


def test_nothing_given_stays_nothing():
    assert parse_optional(None, name="--timeout") is None
    assert parse_optional("1s", name="--timeout") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0ms"),
        (0.0421, "42ms"),
        (0.9996, "1.0s"),
        (1.23, "1.2s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (65, "1m05s"),
        (3_599.7, "1h00m"),
        (9_000, "2h30m"),
        (90_000, "1d01h"),
        (-5, "-5.0s"),
    ],
)
def test_a_duration_is_shown_short(seconds, text):
    assert humanise(seconds) == text
