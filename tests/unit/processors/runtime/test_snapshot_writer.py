"""When a snapshot goes along, and that none ever stops a partition."""

from collections.abc import Sequence
from datetime import datetime

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from events.codec import decode
from events.log import Outgoing, Position
from events.snapshots import Snapshot
from events.topics import Topics
from processors.runtime import snapshot_writer
from processors.runtime.metrics import runtime_metrics
from processors.runtime.recovery import Recovered
from processors.runtime.snapshot import SnapshotTooBig, Taken
from processors.runtime.snapshot_writer import PATIENCE, SnapshotWriter
from processors.scheduler.decision import Decision
from processors.scheduler.state import Ledger
from tests.sim.memory_cluster import START
from tests.unit.processors.scheduler.history import benches, lab

TOPICS = Topics("t")
EVERY = 100


class Rig:
    """A writer of snapshots, and a ledger that grows by what a test says."""

    def __init__(self) -> None:
        metrics = runtime_metrics(NoOpMeterProvider().get_meter("test"))
        self.writer = SnapshotWriter(TOPICS, metrics, EVERY)
        self.history = lab("b1")
        self.decision = Decision(events=tuple(self.history.events))
        self.ledger = self.history.ledger

    def begin(self, *, from_seq: int = 0, has_snapshots: bool = True) -> None:
        self.writer.begin(
            Recovered(
                self.ledger, next_offset=40, end=40, from_seq=from_seq, has_snapshots=has_snapshots
            )
        )

    def at(self, seq: int, *, commit: bool = True) -> Sequence[Outgoing]:
        """Reach `seq` with a batch; return the snapshot records that go with it."""
        self.ledger.seq = seq
        records = list(self.writer.goes_with(self.ledger, [self.decision], START))
        if commit:
            every = [Outgoing(topic=TOPICS.events, key=b"", value=b""), *records]
            positions = [Position(0, seq * 2)] + [Position(0, 0)] * len(records)
            self.writer.committed(every, positions)
        return records


def test_a_snapshot_goes_along_after_so_many_events() -> None:
    rig = Rig()
    rig.begin()
    taken = [seq for seq in range(10, 501, 10) if rig.at(seq)]
    assert taken == [100, 200, 300, 400, 500]


def test_it_names_an_offset_that_was_known_before_its_batch() -> None:
    rig = Rig()
    rig.begin()
    [*records] = rig.at(100)
    offsets = {snapshot_of(record).journal_offset for record in records}
    assert offsets == {40}
    rig.at(150)
    assert {snapshot_of(record).journal_offset for record in rig.at(200)} == {150 * 2 + 1}


def snapshot_of(record: Outgoing) -> Snapshot:
    found = decode(record.value)
    assert isinstance(found, Snapshot)
    return found


def test_a_long_tail_is_made_short_at_the_first_batch() -> None:
    rig = Rig()
    rig.begin(from_seq=1_000)
    assert not rig.at(1_099)
    assert rig.at(1_100)


def test_a_batch_without_events_takes_none_along() -> None:
    rig = Rig()
    rig.begin()
    rig.ledger.seq = 1_000
    assert not rig.writer.goes_with(rig.ledger, [Decision()], START)


def test_without_the_topic_none_is_written() -> None:
    rig = Rig()
    rig.begin(has_snapshots=False)
    assert not rig.at(1_000)


def test_if_its_transaction_failed_others_go_before_the_next() -> None:
    rig = Rig()
    rig.begin()
    assert rig.at(150, commit=False)
    rig.begin()
    assert not rig.at(151)
    assert not rig.at(249)
    assert rig.at(250)


def test_if_its_transaction_took_effect_after_all_nothing_is_put_off() -> None:
    rig = Rig()
    rig.begin()
    assert rig.at(150, commit=False)
    rig.begin(from_seq=150)
    assert rig.at(250)


@pytest.mark.parametrize("fault", [SnapshotTooBig("too big"), ZeroDivisionError()])
def test_a_snapshot_that_cannot_be_made_is_put_off_and_stops_nothing(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def broken(taken: Taken, *, at: datetime) -> Sequence[Snapshot]:
        nonlocal calls
        calls += 1
        raise fault

    monkeypatch.setattr(snapshot_writer, "take", broken)
    rig = Rig()
    rig.begin()
    for seq in range(10, EVERY * PATIENCE * 2, 10):
        assert not rig.at(seq)
    assert calls == 2
    monkeypatch.undo()
    assert rig.at(EVERY * PATIENCE * 3)


def test_the_ledger_is_not_touched() -> None:
    rig = Rig()
    rig.begin()
    before = Ledger(0)
    assert rig.ledger != before
    rig.history.ask(benches("b2"))
    assert rig.at(500)
    assert sorted(rig.ledger.pools["lab"].benches) == ["b1", "b2"]
