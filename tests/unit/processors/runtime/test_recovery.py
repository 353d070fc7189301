"""Recovery from snapshots on a log in memory: what fits is used, what does not is passed over."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from events.codec import decode, encode
from events.errors import JournalBehind, JournalBroken
from events.log import Outgoing, Partition
from events.message import Message
from events.topics import Topics
from processors.runtime.recovery import Recovered, recover, resume
from processors.runtime.snapshot import Taken, records_of, take
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger
from tests.sim.memory_cluster import START, MemoryCluster
from tests.sim.memory_log import MemoryLog
from tests.unit.processors.scheduler.test_random_histories import Chaos

TOPICS = Topics("t")
EVENTS, SNAPSHOTS = Partition(TOPICS.events, 0), Partition(TOPICS.snapshots, 0)


def run(scene: Callable[["Lab"], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        await scene(Lab())

    asyncio.run(play())


class Lab:
    """A journal of a random history, with snapshots where a test wants them."""

    def __init__(self) -> None:
        chaos = Chaos(11)
        for _ in range(300):
            chaos.step()
        self.cluster = MemoryCluster(topics=TOPICS, partitions=1)
        self.log = MemoryLog(self.cluster)
        self.events = chaos.history.events
        self.ledger = Ledger(0)
        self.offsets = [0]
        """After so many events, the offset that comes next."""

    def write(self, count: int) -> None:
        """Write at least so many events more, whole decisions, each followed by a marker."""
        written = 0
        while self.ledger.seq < len(self.events) and (written < count or not self._is_whole()):
            message = self.events[self.ledger.seq]
            at = self.cluster.put(
                Outgoing(topic=TOPICS.events, key=b"lab", value=encode(message), partition=0)
            )
            fold(self.ledger, message)
            self.offsets.append(at.offset + 1)
            if self._is_whole():
                self.cluster.mark([(TOPICS.events, at)])
            written += 1

    def _is_whole(self) -> bool:
        meta = self.events[self.ledger.seq - 1].meta
        return meta.index == meta.count - 1

    def snapshot(self, *, back: int = 3, **changes: Any) -> None:
        """Take a snapshot now; it says to read on from `back` events before."""
        given = {
            "ledger": self.ledger,
            "last_event_id": self.events[self.ledger.seq - 1].meta.event_id,
            "journal_offset": self.offsets[max(0, self.ledger.seq - 1 - back)],
        } | changes
        for record in records_of(TOPICS, take(Taken(**given), at=START)):
            at = self.cluster.put(record)
        self.cluster.mark([(TOPICS.snapshots, at)])

    def damage(self, change: Callable[[Any], Any], *, sound: int = 0) -> None:
        """Change both records of a snapshot, but for the newest ones."""
        entries = self.cluster.stored[SNAPSHOTS]
        places = [place for place, record in enumerate(entries) if record is not None]
        for place in places[: len(places) - sound][-2:]:
            record = entries[place]
            assert record is not None
            entries[place] = replace(record, value=change(decode(record.value)))

    async def resumed(self) -> Recovered:
        """Recover, and see that it is the fold."""
        found = await resume(self.log, TOPICS, 0)
        whole = await recover(self.log, EVENTS)
        assert found.ledger == whole
        assert found.next_offset == self.offsets[-1]
        assert found.last_event_id == self.events[whole.seq - 1].meta.event_id
        assert found.has_snapshots
        return found


def test_the_newest_snapshot_and_its_tail_are_the_fold() -> None:
    async def scene(lab: Lab) -> None:
        seqs = []
        for back in (0, 5, 1_000):
            lab.write(40)
            lab.snapshot(back=back)
            seqs.append(lab.ledger.seq)
            assert (await lab.resumed()).from_seq == seqs[-1]
        lab.write(40)
        found = await lab.resumed()
        assert (found.from_seq, found.skipped) == (seqs[-1], [])

    run(scene)


def test_only_the_tail_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(lab: Lab) -> None:
        lab.write(150)
        lab.snapshot(back=2)
        taken = lab.ledger.seq
        lab.write(10)
        read: list[int] = []
        honest = decode

        def counted(data: bytes | None) -> Any:
            read.append(1)
            return honest(data)

        monkeypatch.setattr("processors.runtime.recovery.decode_event", counted)
        await resume(lab.log, TOPICS, 0)
        assert len(read) <= lab.ledger.seq - taken + 3

    run(scene)


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("damaged", lambda s: encode(replace(s, state=s.state[:-9] + b"damage..!"))),
        ("damaged", lambda s: encode(replace(s, sha256="0" * 64))),
        ("format", lambda s: encode(replace(s, format="2-of-the-future"))),
        ("ahead", lambda s: encode(replace(s, journal_offset=10**9))),
        ("undecodable", lambda s: b"\x00\x7f\xff\xff\xff" + encode(s)[5:]),
        ("undecodable", lambda s: encode(s)[:-3]),
        ("undecodable", lambda s: encode(replace(s, partition=1))),
    ],
)
def test_a_bad_snapshot_gives_way_to_an_older_one_and_then_to_the_journal(
    reason: str, change: Callable[[Any], Any]
) -> None:
    async def scene(lab: Lab) -> None:
        lab.write(50)
        lab.snapshot()
        older = lab.ledger.seq
        lab.write(50)
        lab.snapshot()
        lab.write(20)
        lab.damage(change)
        found = await lab.resumed()
        assert found.from_seq == older
        assert reason in found.skipped
        lab.damage(change, sound=2)
        found = await lab.resumed()
        assert found.from_seq == 0
        assert reason in found.skipped

    run(scene)


def test_a_snapshot_of_another_journal_is_refused() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        lab.snapshot(last_event_id="of-another-cluster")
        lab.write(20)
        with pytest.raises(JournalBehind, match=r"of-another-cluster.*another event is there"):
            await lab.resumed()

    run(scene)


def test_a_snapshot_ahead_of_the_journal_is_refused() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        seq = lab.ledger.seq
        lab.write(30)
        lab.snapshot()
        del lab.cluster.stored[EVENTS][lab.offsets[seq] :]
        del lab.offsets[seq + 1 :]
        with pytest.raises(JournalBehind, match=f"it ends before seq {seq}.*begin-anew"):
            await lab.resumed()

    run(scene)


def test_what_compaction_leaves_of_older_snapshots_does_not_matter() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        lab.snapshot()
        entries = lab.cluster.stored[SNAPSHOTS]
        entries[0] = None
        lab.write(20)
        lab.snapshot()
        found = await lab.resumed()
        assert (found.from_seq, found.skipped) == (lab.ledger.seq, [])

    run(scene)


def test_an_old_snapshot_is_found_far_from_the_end() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        lab.snapshot()
        seq = lab.ledger.seq
        lab.cluster.stored[SNAPSHOTS] += [None] * 10_000
        assert (await lab.resumed()).from_seq == seq

    run(scene)


def test_a_torn_tail_is_refused_with_a_snapshot_too() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        lab.snapshot()
        lab.write(30)
        lab.cluster.stored[EVENTS][lab.offsets[-1] - 1] = None
        lab.write(20)
        with pytest.raises(JournalBroken, match="was due"):
            await resume(lab.log, TOPICS, 0)

    run(scene)


def test_an_unknown_event_in_the_tail_stops_recovery() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        lab.snapshot()
        lab.write(30)
        entries = lab.cluster.stored[EVENTS]
        record = entries[lab.offsets[-1] - 1]
        assert record is not None
        entries[lab.offsets[-1] - 1] = replace(record, value=b"\x00\x7f\xff\xff\xff")
        with pytest.raises(JournalBroken, match="run a version that does"):
            await resume(lab.log, TOPICS, 0)

    run(scene)


def test_without_the_topic_the_journal_is_folded() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(60)
        del lab.cluster.stored[SNAPSHOTS]
        found = await resume(lab.log, TOPICS, 0)
        assert found.ledger == lab.ledger
        assert not found.has_snapshots

    run(scene)


def test_an_empty_journal_is_an_empty_ledger() -> None:
    async def scene(lab: Lab) -> None:
        found = await resume(lab.log, TOPICS, 0)
        assert (found.ledger, found.next_offset, found.from_seq) == (Ledger(0), 0, 0)

    run(scene)


def test_a_message_of_another_kind_in_the_journal_is_refused() -> None:
    async def scene(lab: Lab) -> None:
        lab.write(10)
        meta = replace(lab.events[0].meta, seq=lab.ledger.seq)
        value = encode(Message(meta, lab.events[0].body))
        lab.cluster.put(Outgoing(topic=TOPICS.events, key=b"lab", value=value, partition=0))
        with pytest.raises(JournalBroken):
            await recover(lab.log, EVENTS)

    run(scene)
