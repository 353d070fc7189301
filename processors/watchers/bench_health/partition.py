"""One partition of the journal as the watcher has read it: where it stands, and what it knows.

Counts and says what it cannot read, and goes on: a watcher only asks, it decides nothing.
"""

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from events.codec import decode_event, name_of
from events.errors import JournalBroken, Undecodable, UnknownSchema
from events.ids import claims_place, is_in_place
from events.log import Record
from processors.watchers.bench_health.rule import FACTS, Ask, Health, apply

FACT_NAMES = frozenset(fact.__name__ for fact in FACTS)

logger = structlog.get_logger()


@dataclass(slots=True)
class WatchedPartition:
    """A fold of one partition, from its first record to `offset`."""

    number: int
    offset: int = 0
    """Of the record that is due next; those before it are repeats."""
    health: Health = field(default_factory=Health)
    skipped: int = 0
    """How many records could not be read, in all."""
    _last: bytes | None = None
    """The newest event that a scheduler wrote, undecoded."""
    _seq: int = 0
    _slack: int = 0
    """How many records that could not be read may have taken a number, since one that could."""

    def take(self, record: Record) -> tuple[Ask, ...]:
        """Fold the next record in; return what is to be asked for now. A repeat changes nothing.

        Raises `JournalBroken` if an event between this one and the last was not given: whoever
        hands the records in lost one, and the partition must be read anew.
        """
        assert record.partition == self.number, f"{record.partition} is not {self.number}"
        if record.offset < self.offset:
            return ()
        asked: tuple[Ask, ...] = ()
        try:
            if not claims_place(record.headers, record.partition, self._seq):
                self._seq = self._place_of(record)
            if name_of(record.value) in FACT_NAMES:
                asked = apply(self.health, decode_event(record.value))
            self._seq, self._slack = self._seq + 1, 0
            self._last = record.value
        except Undecodable as error:
            self._skip(record, error)
        self.offset = record.offset + 1
        return asked

    def newest_at(self) -> datetime | None:
        """Return when the newest event happened, by the log; None: there is none, or unreadable."""
        try:
            return decode_event(self._last).meta.occurred_at
        except Undecodable:
            return None

    def _place_of(self, record: Record) -> int:
        """Return the number of an event whose header does not say that it is the one due.

        Raises `Undecodable` for one that no scheduler wrote there, a copy of an earlier one too:
        to go back for that would miss all that follows. Raises `JournalBroken` if some are missing.
        """
        meta = decode_event(record.value).meta
        if not is_in_place(meta, record.partition):
            raise Undecodable(f"the id {meta.event_id} is not one that a scheduler gives")
        if meta.seq < self._seq - self._slack:
            raise Undecodable(f"seq {meta.seq} where {self._seq} was due: a copy of an earlier one")
        if meta.seq > self._seq:
            raise JournalBroken(
                f"journal partition {self.number}, offset {record.offset}: seq {meta.seq} where "
                f"{self._seq} was due: events are missing"
            )
        return meta.seq

    def _skip(self, record: Record, error: Undecodable) -> None:
        logger.warning(
            "watcher.record_skipped",
            partition=record.partition,
            offset=record.offset,
            code=error.code,
            error=str(error),
        )
        numbers = 1 if isinstance(error, UnknownSchema) else 0
        self._seq += numbers
        self._slack += numbers
        self.skipped += 1
