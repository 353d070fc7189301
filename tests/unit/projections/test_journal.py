"""Given records of a partition, then decisions, or the reason why the journal is broken."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from events import facts
from events.codec import encode
from events.errors import JournalBroken
from events.log import Record
from events.message import EventMessage, Message
from projections.journal import Mark, PartitionReader
from tests.unit.projections.given import decision, decisions
from tests.unit.projections.journal_log import START

ONLINE = facts.BenchOnline(bench="b1")
UNKNOWN = b"\x00\x00\x0f\x42\x40 an event of a later version"
FOREIGN = b"not of this world"

Given = EventMessage | bytes


def records(given: Sequence[Given], first_offset: int = 0) -> list[Record]:
    return [
        Record(
            topic="teo.events",
            partition=0,
            offset=offset,
            timestamp=START,
            key=None,
            value=each if isinstance(each, bytes) else encode(each),
        )
        for offset, each in enumerate(given, start=first_offset)
    ]


def taken(given: Sequence[Given], reader: PartitionReader | None = None) -> list[list[int]]:
    """The `seq`s of each decision that comes out."""
    reader = reader or PartitionReader(0, Mark())
    found = (reader.take(record) for record in records(given))
    return [[m.meta.seq for _, m in each.events] for each in found if each is not None]


def three(seq: int = 0) -> list[EventMessage]:
    return decision(ONLINE, ONLINE, ONLINE, seq=seq)


def one(seq: int) -> list[EventMessage]:
    return decision(ONLINE, seq=seq)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ([], []),
        (one(0), [[0]]),
        ([*one(0), *three(1), *one(4)], [[0], [1, 2, 3], [4]]),
        (three()[:2], []),
        ([*one(0), UNKNOWN, *one(2)], [[0], [], [2]]),
        ([UNKNOWN, *three()[1:]], [[], [1, 2]]),
        ([three()[0], UNKNOWN, three()[2]], [[0, 2]]),
        ([*three()[:2], UNKNOWN, *one(3)], [[0, 1], [3]]),
        ([UNKNOWN, UNKNOWN, *one(2)], [[], [], [2]]),
        ([*one(0), FOREIGN, *one(1)], [[0], [], [1]]),
        ([three()[0], FOREIGN, *three()[1:]], [[0, 1, 2]]),
    ],
)
def test_whole_decisions_come_out(given: list[Given], then: list[list[int]]) -> None:
    assert taken(given) == then


def other_count(message: EventMessage, count: int) -> EventMessage:
    return Message(replace(message.meta, count=count), message.body)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (one(1), "seq 1 where 0 was due"),
        ([*one(0), *one(2)], "seq 2 where 1 was due"),
        ([*one(0), *one(0)], "seq 0 where 1 was due"),
        ([*one(0), FOREIGN, *one(2)], "seq 2 where 1 was due"),
        ([*one(0), UNKNOWN, *one(3)], "seq 3 where 2 was due"),
        ([*three()[:1], *one(1)], "torn"),
        ([*three()[:1], other_count(three()[1], 4)], "torn"),
        ([*one(0), *decision(ONLINE, ONLINE, seq=0)[1:]], "middle of a decision"),
    ],
)
def test_a_broken_journal_stops_the_reader(given: list[Given], reason: str) -> None:
    with pytest.raises(JournalBroken, match=reason):
        taken(given)


def test_the_mark_of_a_decision_says_where_to_go_on() -> None:
    reader = PartitionReader(0, Mark())
    marks = [d.mark for r in records([*one(0), UNKNOWN, *one(2)]) if (d := reader.take(r))]
    assert marks[0] == Mark(offset=0, event_id=one(0)[0].meta.event_id, seq=1)
    assert marks[1] == Mark(offset=1, seq=2, slack=1, skipped=1)
    assert marks[2] == Mark(offset=2, event_id=one(2)[0].meta.event_id, seq=3, skipped=1)


def test_a_restart_after_any_decision_goes_on_as_if_there_was_none() -> None:
    given: list[Given] = [UNKNOWN, *three()[1:], *one(3), UNKNOWN, *one(5), *three(6)]
    whole = taken(given)
    for cut in range(len(given)):
        reader, found = PartitionReader(0, Mark()), []
        mark, start = Mark(), 0
        for record in records(given[: cut + 1]):
            closed = reader.take(record)
            if closed is not None:
                found.append([m.meta.seq for _, m in closed.events])
                mark, start = closed.mark, record.offset + 1
        found += taken(given[start:], PartitionReader(0, mark))
        assert found == whole, f"cut after record {cut}"


def test_decisions_helper_numbers_densely() -> None:
    assert [m.meta.seq for m in decisions([ONLINE], [ONLINE, ONLINE])] == [0, 1, 2]
