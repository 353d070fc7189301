"""A partition as it is read: repeats, records nobody can read, and a start from anywhere."""

import struct
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events import facts
from events.codec import encode
from events.errors import JournalBroken
from events.log import Record
from processors.watchers.bench_health.partition import WatchedPartition
from processors.watchers.bench_health.rule import Ask
from tests.unit.processors.watchers.facts_of import (
    START,
    error,
    journal,
    message,
    policy,
    record,
    records,
    restored,
    taken_out,
)
from tests.unit.processors.watchers.test_rule import HISTORY, timed

UNKNOWN = struct.pack(">bI", 0, 999_999) + b"of a later version"


def take(watched: WatchedPartition, *given_: Record) -> list[Ask]:
    return [asked for each in given_ for asked in watched.take(each)]


@settings(max_examples=100, deadline=None)
@given(HISTORY, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans())))
def test_repeats_from_any_earlier_offset_change_nothing(
    history: list[tuple[int, facts.Event]], jumps: list[tuple[int, int, bool]]
) -> None:
    """As a stream that is sought back now and then, and a process that dies and folds anew."""
    given_ = records(timed(history))
    straight = WatchedPartition(0)
    expected = take(straight, *given_)
    watched, at, known, asked = WatchedPartition(0), 0, 0, []
    for stop, back_to, has_died in jumps[:6]:
        asked += take(watched, *given_[at : max(at, stop)])
        at = min(max(at, stop), len(given_))
        known = max(known, at)
        if has_died:
            watched, at = WatchedPartition(0), known
            assert take(watched, *given_[:known]) == asked
        else:
            at = min(at, back_to)
    asked += take(watched, *given_[at:])
    assert asked == expected
    assert watched.health == straight.health
    assert watched.offset == straight.offset


def test_what_is_of_a_later_version_is_counted_told_and_skipped() -> None:
    messages = journal((0, policy(0, 60)), (1, error()))
    later = message(error("b2"), seq=3, at_s=3)  # Number 2 is the unknown one's.
    watched = WatchedPartition(0)
    with capture_logs() as logs:
        asked = take(watched, *records(messages), record(4, UNKNOWN), record(6, encode(later)))
    assert [each.body.bench for each in asked] == ["b1", "b2"]
    assert watched.skipped == 1
    (said,) = [each for each in logs if each["event"] == "watcher.record_skipped"]
    assert (said["code"], said["offset"], said["log_level"]) == ("unknown_schema", 4, "warning")


@pytest.mark.parametrize("value", [None, b"", b"no avro", b"\x07\x00\x00\x00\x01"])
def test_what_is_no_message_is_counted_and_has_no_number(value: bytes | None) -> None:
    watched = WatchedPartition(0)
    messages = journal((0, policy(0, 60)), (1, error()))
    asked = take(watched, record(0, value), record(1, encode(messages[0])))
    asked += take(watched, record(2, encode(messages[1])))
    assert len(asked) == 1
    assert watched.skipped == 1


def test_an_event_that_no_scheduler_wrote_is_counted_and_has_no_number() -> None:
    forged = message(taken_out(), seq=7, at_s=1)
    forged = replace(forged, meta=replace(forged.meta, event_id="forged"))
    given_ = records(journal((0, policy(1, 60)), (1, error()), (2, error())))
    watched = WatchedPartition(0)
    take(watched, given_[0], record(1, encode(forged)), *given_[1:])
    assert watched.skipped == 1
    assert not watched.health.bench("lab", "b1").is_quarantined


@pytest.mark.parametrize("copied", [1, 2])
def test_a_copy_of_an_event_counts_nothing_and_loses_nothing(copied: int) -> None:
    """As an operator has quarantined it: schedulers go on, and so does the watcher."""
    online = facts.BenchOnline(bench="b1")
    events = journal((0, policy(2, 60)), (1, error()), (2, online), (3, error()), (4, error()))
    watched, given_ = WatchedPartition(0), records(events)
    take(watched, *given_[:3])
    take(watched, replace(given_[copied], offset=given_[2].offset + 1))
    assert watched.skipped == 1
    later = [replace(each, offset=each.offset + 1) for each in given_[3:]]
    assert not take(watched, later[0]), "two errors, and two are allowed"
    assert [ask.body.bench for ask in take(watched, later[1])] == ["b1"]


def test_what_no_scheduler_wrote_tells_no_time() -> None:
    given_ = records(journal((0, policy(1, 60)), (1, error())))
    forged = message(taken_out(), seq=2, at_s=10**9)
    forged = replace(forged, meta=replace(forged.meta, event_id="forged"))
    watched = WatchedPartition(0)
    take(watched, *given_, record(9, encode(forged)))
    assert watched.newest_at() == START + timedelta(seconds=1)


def test_a_copy_of_a_fact_is_counted_and_what_follows_is_read() -> None:
    """As somebody who mirrors a topic into itself writes it; an operator lets it be passed over."""
    given_ = records(journal((0, policy(1, 60)), (1, taken_out()), (2, restored()), (3, error())))
    copy = replace(given_[1], offset=given_[2].offset + 1)
    watched = WatchedPartition(0)
    take(watched, *given_[:3], copy, replace(given_[3], offset=copy.offset + 1))
    assert watched.skipped == 1
    assert not watched.health.bench("lab", "b1").is_quarantined


def test_a_lost_record_is_noticed() -> None:
    given_ = records(journal((0, policy(1, 60)), (1, error()), (2, error())))
    watched = WatchedPartition(0)
    take(watched, given_[0])
    with pytest.raises(JournalBroken, match="seq 2 where 1 was due"):
        watched.take(given_[2])


def test_what_the_rule_does_not_read_is_not_decoded() -> None:
    online = message(facts.BenchOnline(bench="b1"), seq=0, at_s=0)
    cut = encode(online)[:-1]
    watched = WatchedPartition(0)
    last = message(taken_out(), seq=1, at_s=1)
    assert not take(watched, record(0, cut, said_id=online.meta.event_id), record(2, encode(last)))
    assert watched.skipped == 0
    assert watched.health.bench("lab", "b1").is_quarantined
    take(watched, record(4, encode(message(restored(), seq=2, at_s=2))))
    assert not watched.health.bench("lab", "b1").is_quarantined
