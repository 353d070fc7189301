"""Makes the ledger of one partition from its journal: from the newest snapshot that fits, or from
the start. Refuses a journal that breaks its own rules.

Never guesses: a hole in `seq`, half a decision or a fact it does not know stops the partition,
because a writer must not decide on half a history. A snapshot is only ever a short cut: whatever
is wrong with one, the journal goes before it.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from events.codec import decode_event
from events.errors import JournalBehind, JournalBroken, Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Record
from events.message import EventMessage
from events.quarantine import Quarantine, is_fact
from events.reading import read_until
from events.topics import Topics, prefix_flag
from processors.runtime.ahead import mends
from processors.runtime.snapshot import SnapshotUnusable, Taken, assemble
from processors.runtime.snapshot_reader import Search, has_snapshots
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger

logger = structlog.get_logger()


class Journal:
    """Checks, event by event, that the journal of one partition is whole, from `seq` on."""

    def __init__(self, partition: int, seq: int = 0) -> None:
        self.partition = partition
        self.seq = seq
        self.left = 0
        """How many events of the decision being read are still to come."""

    def check(self, message: EventMessage, offset: int) -> None:
        """Raise `JournalBroken` unless `message` is the next of the journal."""
        meta = message.meta
        at = f"journal partition {self.partition}, offset {offset}"
        if meta.seq != self.seq:
            raise JournalBroken(f"{at}: seq {meta.seq} where {self.seq} was due")
        if not is_in_place(meta, self.partition):
            raise JournalBroken(f"{at}: the id {meta.event_id} is not one that a scheduler gives")
        if self.left == 0 and meta.index != 0:
            raise JournalBroken(f"{at}: begins in the middle of a decision (index {meta.index})")
        if self.left and meta.index != meta.count - self.left:
            raise JournalBroken(f"{at}: a decision is torn: index {meta.index} of {meta.count}")
        self.left = meta.count - meta.index - 1
        self.seq += 1

    def finish(self) -> None:
        """Raise `JournalBroken` if the last decision is not whole."""
        if self.left:
            raise JournalBroken(
                f"journal partition {self.partition}: the last decision lacks {self.left} events"
            )


@dataclass(slots=True)
class Recovered:
    """A ledger, and how it came to be."""

    ledger: Ledger
    next_offset: int
    """Offset of the journal that follows what is folded in: nothing newer is before it."""
    end: int
    """Where the journal ended for who was asked: the next record must come to stand there."""
    last_event_id: str = ""
    """Id of the last event folded in; empty: there is none."""
    from_seq: int = 0
    """Seq of the snapshot it began with; 0: it is a fold from the start."""
    has_snapshots: bool = False
    """True if snapshots can be written."""
    skipped: list[str] = field(default_factory=list)
    """For each snapshot that could not be used, why not, in one word."""


class NotMet(SnapshotUnusable):
    """Raised when the journal does not have, where it should be, the last event of a snapshot."""

    def __init__(self, reason: str, text: str, taken: Taken, *, is_replaced: bool = False) -> None:
        super().__init__(reason, text)
        self.seq = taken.ledger.seq
        self.at = taken.ledger.now
        self.last_event_id = taken.last_event_id
        self.is_replaced = is_replaced
        """True if another event is there."""


async def recover(log: Log, partition: Partition) -> Ledger:
    """Return the ledger that the whole journal gives, from its start to its end.

    Raises `JournalBroken`; `LogUnavailable` if the journal cannot be read now.
    """
    return (await _from_start(log, partition)).ledger


async def resume(log: Log, topics: Topics, number: int) -> Recovered:
    """Return the ledger of partition `number`, from the newest usable snapshot if there is one.

    Raises as `recover` does, and `JournalBehind` if a snapshot has what the journal lost.
    """
    events = Partition(topics.events, number)
    if not await has_snapshots(log, topics, number):
        logger.warning("snapshot.no_topic", topic=topics.snapshots, partition=number)
        return await _from_start(log, events)
    found, skipped, not_met = await _from_snapshots(log, topics, events)
    if found is None:
        found = await _from_start(log, events)
    found.has_snapshots, found.skipped = True, skipped
    _refuse_if_behind(found, not_met, topics.events)
    return found


def _refuse_if_behind(found: Recovered, not_met: Sequence[NotMet], topic: str) -> None:
    """Raise `JournalBehind` if a whole snapshot has an event that the journal has no more.

    One of which only the offset is wrong is none of that: its event may be there. Nor is one from
    before the first event: it is of a journal before this one.
    """
    for each in not_met:
        if each.at < found.ledger.began:
            continue
        if each.seq > found.ledger.seq:
            why = f"it ends before seq {found.ledger.seq}"
        elif each.is_replaced:
            why = "another event is there"
        else:
            continue
        raise JournalBehind(
            f"journal partition {found.ledger.partition} lacks what a snapshot has, event "
            f"{each.last_event_id} with seq {each.seq - 1}: {why}. The journal lost facts, or a "
            f"broker tells an old end of it. Nothing is decided until it has them: {mends(topic)}"
        )


async def _from_snapshots(
    log: Log, topics: Topics, events: Partition
) -> tuple[Recovered | None, list[str], list[NotMet]]:
    """Return what a snapshot gives, why others were passed over, and which the journal lacks."""
    search = Search(log, Partition(topics.snapshots, events.number))
    skipped: list[str] = []
    not_met: list[NotMet] = []

    def skip(seq: int, error: SnapshotUnusable) -> None:
        skipped.append(error.reason)
        logger.warning("snapshot.skipped", partition=events.number, seq=seq, error=str(error))

    found: Recovered | None = None
    async with aclosing(search.newest_first()) as candidates:
        async for seq, parts in candidates:
            try:
                found = await _from_snapshot(log, events, assemble(parts))
                break
            except SnapshotUnusable as error:
                not_met += [error] if isinstance(error, NotMet) else []
                skip(seq, error)
    for offset, text in search.undecodable.items():
        skip(-1, SnapshotUnusable("undecodable", f"offset {offset}: {text}"))
    return found, skipped, not_met


async def fold_without(
    log: Log, partition: Partition, offsets: frozenset[int]
) -> tuple[Recovered, Mapping[int, tuple[Record, int]]]:
    """Fold a journal without the records at `offsets`, where they do not fit; return these too.

    With each the number that was due there; those that a fact names already are left out. One that
    lost all of its facts is an empty one here. Raises `JournalBroken` if the rest is not whole.
    """
    quarantine = Quarantine(log, partition, offsets)
    found = await _fold(log, partition, quarantine)
    new = offsets - quarantine.named
    return found, {at: known for at, known in quarantine.passed.items() if at in new}


async def _from_start(log: Log, partition: Partition) -> Recovered:
    found = await _fold(log, partition, Quarantine(log, partition))
    begin = (await log.begins([partition]))[partition]
    if begin and not found.ledger.seq:
        raise JournalBehind(
            f"journal partition {partition.number} begins at offset {begin} and has no facts: all "
            "that it had are gone, by a retention that is too short, or somebody deleted them. "
            f"Nothing is decided: {mends(partition.topic)}"
        )
    return found


async def _fold(log: Log, partition: Partition, quarantine: Quarantine) -> Recovered:
    end = (await log.ends([partition]))[partition]
    start = (await log.begins([partition]))[partition]
    found = Recovered(Ledger(partition.number), next_offset=start, end=end)
    journal = Journal(partition.number)
    async with aclosing(read_until(log, partition, start, end)) as batches:
        async for records in batches:
            for record in records:
                await _take(record, found, journal, quarantine)
    journal.finish()
    return found


async def _from_snapshot(log: Log, partition: Partition, taken: Taken) -> Recovered:
    """Fold what follows a snapshot; it must end with an event that the journal has.

    Raises `NotMet` if the journal does not have it, or has another there.
    """
    end = (await log.ends([partition]))[partition]
    start = max((await log.begins([partition]))[partition], taken.journal_offset)
    found = Recovered(
        taken.ledger,
        next_offset=start,
        end=end,
        last_event_id=taken.last_event_id,
        from_seq=taken.ledger.seq,
    )
    journal = Journal(partition.number, taken.ledger.seq)
    quarantine = Quarantine(log, partition)
    was_met = False
    async with aclosing(read_until(log, partition, start, end)) as batches:
        async for records in batches:
            for record in records:
                if was_met:
                    await _take(record, found, journal, quarantine)
                else:
                    was_met = await _is_last_of(taken, record, quarantine)
                    found.next_offset = record.offset + 1
    if not was_met:
        raise NotMet("ahead", f"the journal ends before its seq {taken.ledger.seq}", taken)
    journal.finish()
    return found


async def _is_last_of(taken: Taken, record: Record, quarantine: Quarantine) -> bool:
    """Return True at the last event of a snapshot, False before it."""
    seq = taken.ledger.seq - 1
    try:
        meta = _decoded(record).meta
    except JournalBroken:
        if await quarantine.passes_over(record, seq):
            return False
        raise
    is_whole = meta.index == meta.count - 1
    if (meta.seq, meta.event_id) == (seq, taken.last_event_id) and is_whole:
        return True
    is_none = not is_in_place(meta, record.partition)
    if meta.seq < seq or (is_none and await quarantine.passes_over(record, seq)):
        return False
    raise NotMet(
        "other_journal",
        f"its last event is {taken.last_event_id} with seq {seq}, but at offset "
        f"{record.offset} of the journal is {meta.event_id} with seq {meta.seq}",
        taken,
        is_replaced=meta.seq == seq,
    )


def _decoded(record: Record) -> EventMessage:
    try:
        return decode_event(record.value)
    except Undecodable as error:
        raise JournalBroken(
            f"journal partition {record.partition}, offset {record.offset}: {error}; "
            "a writer must know every event: run a version that does"
        ) from error


def _with_next_step(error: JournalBroken, record: Record, seq: int) -> JournalBroken:
    if is_fact(record, seq):
        lost = f"{error}: its beginning is gone. {mends(record.topic)}"
        return error if seq else JournalBroken(lost)
    return JournalBroken(
        f"{error}. If no scheduler wrote this record, look who did, then let it be passed over "
        f"with `teo journal quarantine-record --partition {record.partition} --offset "
        f"{record.offset} --reason TEXT{prefix_flag(record.topic)}`"
    )


async def _take(record: Record, found: Recovered, journal: Journal, quarantine: Quarantine) -> None:
    """Fold the next record in, unless it is no fact and is passed over."""
    found.next_offset = record.offset + 1
    try:
        message = _decoded(record)
        journal.check(message, record.offset)
    except JournalBroken as error:
        if await quarantine.passes_over(record, journal.seq):
            logger.info(
                "journal.record_passed_over", partition=record.partition, offset=record.offset
            )
            return
        raise _with_next_step(error, record, journal.seq) from error
    try:
        fold(found.ledger, message)
    except (KeyError, AttributeError, ValueError) as error:
        raise JournalBroken(
            f"journal partition {record.partition}, offset {record.offset}: cannot be applied: "
            f"{error!r}"
        ) from error
    found.last_event_id = message.meta.event_id
