"""Lines out of batches that repeat, overlap or miss some."""

from datetime import UTC, datetime

from api.log_lines import Gap, Lines, Sieve, without_markers
from events.logs import TOO_FAST, LogBatch


def batch(first: int, *lines: str, stderr: tuple[int, ...] = (), is_last: bool = False) -> LogBatch:
    return LogBatch(
        execution_id="exe-1",
        attempt=1,
        fence=1,
        first_line=first,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        lines=lines,
        stderr_lines=stderr,
        is_last=is_last,
    )


def lines(first: int, *texts: str, stderr: tuple[int, ...] = ()) -> Lines:
    return Lines(attempt=1, first_line=first, lines=texts, stderr=stderr)


def check(sieve: Sieve, given: LogBatch, *expected: Lines | Gap) -> None:
    assert sieve.sift(given) == list(expected)


def test_each_line_goes_through_once() -> None:
    sieve = Sieve(1)
    check(sieve, batch(1, "a", "b"), lines(1, "a", "b"))
    check(sieve, batch(1, "a", "b"))
    check(sieve, batch(2, "b", "c", "d", stderr=(0, 2)), lines(3, "c", "d", stderr=(1,)))
    check(sieve, batch(3, "c"))
    assert sieve.next_line == 5


def test_missing_lines_are_named() -> None:
    sieve = Sieve(1, next_line=3)
    check(sieve, batch(1, "a"))
    check(sieve, batch(6, "f"), Gap(attempt=1, first_line=3, next_line=6), lines(6, "f"))
    assert not sieve.is_ended


def test_a_line_that_stands_for_others_is_left_out_with_them() -> None:
    given = batch(5, "e", TOO_FAST, "g", TOO_FAST, stderr=(1, 2, 3), is_last=True)
    assert without_markers(given) == [
        batch(5, "e"),
        batch(7, "g", stderr=(0,)),
        batch(9, is_last=True),
    ]
    assert without_markers(batch(1, TOO_FAST, "b")) == [batch(2, "b")]
    assert without_markers(batch(1, "a")) == [batch(1, "a")]
    sieve = Sieve(1, next_line=5)
    found = [each for part in without_markers(given) for each in sieve.sift(part)]
    assert found == [
        lines(5, "e"),
        Gap(attempt=1, first_line=6, next_line=7),
        lines(7, "g", stderr=(0,)),
        Gap(attempt=1, first_line=8, next_line=9),
    ]


def test_an_empty_last_batch_ends_and_may_name_a_gap() -> None:
    sieve = Sieve(1, next_line=2)
    check(sieve, batch(4, is_last=True), Gap(attempt=1, first_line=2, next_line=4))
    assert sieve.is_ended
    assert sieve.next_line == 4
