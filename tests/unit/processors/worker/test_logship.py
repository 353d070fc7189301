"""Lines are numbered, masked, batched and limited; the file has them all."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from events.logs import TOO_FAST, LogBatch
from events.secrets import SECRET_NAMES
from events.shared import AttemptRef
from processors.worker.logship import CUT_MARK, LogShipper
from processors.worker.masking import Masker
from processors.worker.rate import TokenBucket
from processors.worker.settings import LogLimits
from processors.worker.telemetry import Telemetry
from tests.unit.processors.worker.lab import TOPICS, Clock, FakeLog, play

LIMITS = LogLimits()


def shipped(
    path: Path,
    write: Callable[[LogShipper], None],
    limits: LogLimits = LIMITS,
    log: FakeLog | None = None,
) -> list[LogBatch]:
    """Return what came on the log of the lines that `write` wrote."""
    log = log or FakeLog()

    async def scene() -> None:
        shipper = LogShipper(
            AttemptRef(execution_id="exe", attempt=1),
            fence=3,
            path=path,
            log=log,  # type: ignore[arg-type]
            topics=TOPICS,
            limits=limits,
            append_timeout_s=2.0,
            masker=Masker({"MY_TOKEN": "hunter2"}, SECRET_NAMES),
            clock=Clock(),
            telemetry=Telemetry("w", "p"),
        )
        shipping = asyncio.create_task(shipper.ship())
        write(shipper)
        await asyncio.sleep(1)
        shipper.end()
        shipper.line("too late", False)
        await asyncio.sleep(1)
        log.is_away = False
        await asyncio.wait_for(shipping, 60)

    play(scene)
    return log.read(TOPICS.logs)


def numbered(batches: list[LogBatch]) -> dict[int, str]:
    return {batch.first_line + at: line for batch in batches for at, line in enumerate(batch.lines)}


def test_numbers_streams_and_the_end(tmp_path: Path) -> None:
    def write(shipper: LogShipper) -> None:
        for number in range(1, 1202):
            shipper.line(f"line {number}", number % 2 == 0)

    batches = shipped(tmp_path / "log", write)
    assert numbered(batches) == {number: f"line {number}" for number in range(1, 1202)}
    assert max(len(batch.lines) for batch in batches) == 500
    assert batches[0].stderr_lines == tuple(range(1, 500, 2))
    assert {(b.execution_id, b.attempt, b.fence) for b in batches} == {("exe", 1, 3)}
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert (tmp_path / "log").read_text().splitlines() == list(numbered(batches).values())


def test_no_output_still_has_an_end(tmp_path: Path) -> None:
    (only,) = shipped(tmp_path / "log", lambda _: None)
    assert (only.first_line, only.lines, only.is_last) == (1, (), True)


def test_bytes_limit_a_batch_too(tmp_path: Path) -> None:
    def write(shipper: LogShipper) -> None:
        for _ in range(20):
            shipper.line("x" * 60, False)

    batches = shipped(tmp_path / "log", write, replace(LogLimits(), batch_bytes_max=100))
    assert all(len(batch.lines) <= 1 for batch in batches)


def test_secrets_are_masked_in_both_places(tmp_path: Path) -> None:
    batches = shipped(tmp_path / "log", lambda s: s.line("curl -H hunter2 hunter2", False))
    assert numbered(batches) == {1: "curl -H *** ***"}
    assert "hunter2" not in (tmp_path / "log").read_text()


def test_too_fast_goes_to_the_file_only_and_says_so_once(tmp_path: Path) -> None:
    def write(shipper: LogShipper) -> None:
        for number in range(1, 101):
            shipper.line(f"line {number}", False)

    limits = replace(LogLimits(), rate_lines_s=1.0, burst_lines=10.0)
    found = numbered(shipped(tmp_path / "log", write, limits))
    assert found == {**{n: f"line {n}" for n in range(1, 11)}, 11: TOO_FAST}
    assert len((tmp_path / "log").read_text().splitlines()) == 100


@pytest.mark.parametrize("at_once", [True, False])
def test_the_end_says_how_many_lines_there_were(tmp_path: Path, at_once: bool) -> None:
    def write(shipper: LogShipper) -> None:
        for number in range(1, 101):
            shipper.line(f"line {number}", False)
        if at_once:  # What is still to be sent must not take the place of the end.
            shipper.end()

    limits = replace(LogLimits(), rate_lines_s=1.0, burst_lines=10.0)
    last = shipped(tmp_path / "log", write, limits)[-1]
    assert (last.is_last, last.first_line + len(last.lines)) == (True, 101)


def test_while_the_log_is_away_the_test_goes_on_and_memory_is_bounded(tmp_path: Path) -> None:
    def write(shipper: LogShipper) -> None:
        for _ in range(100):
            shipper.line("x" * 100, False)
        assert shipper._pending_bytes <= 1_000 + len(TOO_FAST)

    log = FakeLog()
    log.is_away = True
    limits = replace(LogLimits(), buffer_bytes_max=1_000)
    found = numbered(shipped(tmp_path / "log", write, limits, log))
    assert found[11] == TOO_FAST
    assert len((tmp_path / "log").read_text().splitlines()) == 100


@pytest.mark.parametrize(
    ("text", "on_log", "in_file"),
    [
        ("a" * 50, "a" * 20 + CUT_MARK, b"a" * 50),
        ("\xe9" * 15, "\xe9" * 10 + CUT_MARK, "\xe9".encode() * 15),
        ("bad \udcff byte", "bad ? byte", b"bad ? byte"),
    ],
)
def test_awkward_lines(tmp_path: Path, text: str, on_log: str, in_file: bytes) -> None:
    limits = replace(LogLimits(), line_bytes_max=20)
    assert numbered(shipped(tmp_path / "log", lambda s: s.line(text, False), limits)) == {1: on_log}
    assert (tmp_path / "log").read_bytes() == in_file + b"\n"


def test_the_file_has_a_limit(tmp_path: Path) -> None:
    def write(shipper: LogShipper) -> None:
        for _ in range(10):
            shipper.line("x" * 10, False)
        assert "first 33 bytes" in shipper.note

    shipped(tmp_path / "log", write, replace(LogLimits(), file_bytes_max=40))
    assert len((tmp_path / "log").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("env", "text", "expected"),
    [
        ({"GITHUB_TOKEN": "abcd1234"}, "x abcd1234 y", "x *** y"),
        ({"db_password": "abcd1234"}, "abcd1234abcd1234", "******"),
        ({"SECRET_KEY": "line one\nline two"}, "got line two", "got ***"),
        ({"A_SECRET": "abcd", "B_SECRET": "abcdef"}, "abcdef", "***"),
        ({"A_TOKEN": "a.b+"}, "axbb a.b+", "axbb ***"),
        ({"A_TOKEN": "abc"}, "abc", "abc"),
        ({"A_TOKEN": ""}, "abc", "abc"),
        ({"MODE": "abcd1234"}, "abcd1234", "abcd1234"),
        ({"A_TOKEN": 'a"b\\cd'}, 'assert "a\\"b\\\\cd" ==', 'assert "***" =='),
        ({"A_TOKEN": "it's\tit"}, repr(["it's\tit"]), '["***"]'),
    ],
)
def test_masker(env: dict[str, str], text: str, expected: str) -> None:
    assert Masker(env, SECRET_NAMES)(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it was hunter2secret [cut]", "it was *** [cut]"),
        ("it was hunter2 [cut] and hunt [cut]", "it was *** [cut] and *** [cut]"),
        ("it was hun [cut]", "it was hun [cut]"),
        ("it was hunter", "it was hunter"),
    ],
)
def test_the_beginning_of_a_secret_is_masked_where_a_text_was_cut(text: str, expected: str) -> None:
    assert Masker({"A_TOKEN": "hunter2secret"}, SECRET_NAMES).cut(text, " [cut]") == expected


def test_a_secret_in_two_pieces_of_a_line_is_masked(tmp_path: Path) -> None:
    whole = "hunter2" * 3 + "." * 10 + "hunter2"

    for at in range(1, len(whole)):
        pieces = (whole[:at], whole[at:])

        def write(shipper: LogShipper, pieces: tuple[str, str] = pieces) -> None:
            shipper.line(pieces[0], False, goes_on=True)
            shipper.line("hunt", True)
            shipper.line(pieces[1], False)
            shipper.line("er2 hunt", False, goes_on=True)

        batches = shipped(tmp_path / "log", write)
        first, other, second, *last = (line for batch in batches for line in batch.lines)
        assert (first + second, other) == ("*" * 9 + "." * 10 + "***", "hunt"), pieces
        assert "".join(last) == "er2 hunt", "nothing of it is lost"
        assert b"hunter2" not in (tmp_path / "log").read_bytes()


def test_a_dry_bucket_rests_until_half_full() -> None:
    bucket = TokenBucket(rate=1.0, burst=10.0, now=0.0)
    for _ in range(10):
        assert bucket.can_take(1, 0.0)
        bucket.take(1)
    assert not bucket.can_take(1, 0.0)
    assert not bucket.can_take(1, 4.9)
    assert bucket.can_take(1, 5.0)
