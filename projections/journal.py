"""Checks that a partition of the journal is whole, and cuts it into whole decisions.

Never shows half a decision: its events are given out together, once the last of them is read.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog

from events.codec import decode_event
from events.errors import JournalBroken, Undecodable, UnknownSchema
from events.ids import is_in_place
from events.log import Record
from events.message import EventMessage
from events.shared import EventMeta

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a partition was read; always at the end of a decision."""

    offset: int = -1
    """Of the last record taken; -1: none."""
    event_id: str = ""
    """Of the event in that record; empty: it could not be read."""
    seq: int = 0
    """Number the next event has."""
    slack: int = 0
    """How many records since the last event that was understood may have taken a number."""
    skipped: int = 0
    """How many records could not be read, in all."""


def happened_at(event_id: str) -> datetime | None:
    """Return the time in the id of an event, a UUIDv7; None: it has none."""
    try:
        at_ms = UUID(event_id).int >> 80
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The events of one decision, and where the partition stands after it."""

    events: tuple[tuple[int, EventMessage], ...]
    """Each with its offset."""
    mark: Mark


class PartitionReader:
    """Takes the records of one partition, in order; gives decisions."""

    def __init__(self, partition: int, mark: Mark) -> None:
        self._partition = partition
        self._offset = mark.offset
        self._event_id = mark.event_id
        self._seq = mark.seq
        self._slack = mark.slack
        self._skipped = mark.skipped
        self._events: list[tuple[int, EventMessage]] = []
        self._start = self._end = mark.seq
        """First number of the decision being read, and the one that follows it."""

    @property
    def seq(self) -> int:
        """Number of the event that is due."""
        return self._seq

    def pass_over(self, record: Record) -> Decision | None:
        """Leave out a record that is no fact; return where the partition stands, if it is whole."""
        log.warning(
            "projection.record_passed_over", partition=record.partition, offset=record.offset
        )
        self._skipped += 1
        self._offset = record.offset
        try:
            self._event_id = decode_event(record.value).meta.event_id
        except Undecodable:
            self._event_id = ""
        return self._close() if self._seq >= self._end else None

    def take(self, record: Record) -> Decision | None:
        """Return the decision that `record` completes, if it does.

        A record that this version cannot read is counted and skipped: an unknown schema is an
        event of a later version and has taken a number; anything else is not of the journal.
        Raises `JournalBroken` if a number is missing, a decision is torn, or no scheduler wrote it.
        """
        try:
            message = decode_event(record.value)
        except Undecodable as error:
            self._skip(record, error)
        else:
            meta = message.meta
            self._check(meta, record.offset)
            self._start = meta.seq - meta.index
            self._end = self._start + meta.count
            self._seq = meta.seq + 1
            self._slack = 0
            self._event_id = meta.event_id
            self._events.append((record.offset, message))
        self._offset = record.offset
        return self._close() if self._seq >= self._end else None

    def _skip(self, record: Record, error: Undecodable) -> None:
        log.warning(
            "projection.record_skipped",
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )
        numbers = 1 if isinstance(error, UnknownSchema) else 0
        self._seq += numbers
        self._slack += numbers
        self._skipped += 1
        self._event_id = ""

    def _close(self) -> Decision:
        mark = Mark(
            offset=self._offset,
            event_id=self._event_id,
            seq=self._seq,
            slack=self._slack,
            skipped=self._skipped,
        )
        decision = Decision(events=tuple(self._events), mark=mark)
        self._events.clear()
        return decision

    def _check(self, meta: EventMeta, offset: int) -> None:
        if not self._seq - self._slack <= meta.seq <= self._seq:
            raise JournalBroken(
                f"{self._at(offset)}: seq {meta.seq} where {self._seq} was due; "
                "the journal lost records or was written by two: compare it with a backup"
            )
        if not is_in_place(meta, self._partition):
            raise JournalBroken(
                f"{self._at(offset)}: the id {meta.event_id} is not one that a scheduler gives"
            )
        span = (meta.seq - meta.index, meta.seq - meta.index + meta.count)
        is_within = meta.seq < self._end
        is_torn = is_within and span != (self._start, self._end)
        if is_torn or not 0 <= meta.index < meta.count:
            raise JournalBroken(
                f"{self._at(offset)}: a decision is torn: index {meta.index} of {meta.count} "
                f"at seq {meta.seq}, in the decision that began at seq {self._start}"
            )
        if not is_within and meta.index > self._slack:
            raise JournalBroken(
                f"{self._at(offset)}: begins in the middle of a decision (index {meta.index})"
            )

    def _at(self, offset: int) -> str:
        return f"journal partition {self._partition}, offset {offset}"
