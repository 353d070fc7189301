"""Decides when a snapshot goes along with a batch. Never lets a snapshot stop a partition."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from events.log import Outgoing, Position
from events.topics import Topics
from processors.runtime.metrics import RuntimeMetrics
from processors.runtime.recovery import Recovered
from processors.runtime.snapshot import SnapshotTooBig, Taken, records_of, take
from processors.scheduler.decision import Decision
from processors.scheduler.state import Ledger

EVENTS_PER_SNAPSHOT = 10_000
"""So many events a recovery folds at most: a fraction of a second."""
PATIENCE = 10
"""A state that was too big, or could not be dumped, is tried again after so many times that."""

logger = structlog.get_logger()


class SnapshotWriter:
    """The snapshots of one partition; outlives recoveries, so that a fault is not met at once
    again."""

    def __init__(self, topics: Topics, metrics: RuntimeMetrics, every: int) -> None:
        self._topics = topics
        self._metrics = metrics
        self._every = every
        self._is_possible = False
        self._due_seq = 0
        self._trying_seq = 0
        self._next_offset = 0
        self._last_event_id = ""

    def begin(self, found: Recovered) -> None:
        """Go on from a recovered ledger."""
        self._is_possible = found.has_snapshots
        self._next_offset = found.next_offset
        self._last_event_id = found.last_event_id
        self._due_seq = found.from_seq + self._every
        if self._trying_seq > found.from_seq:
            # Its transaction failed. If it is to blame, others must go before the next one.
            self._due_seq = max(self._due_seq, self._trying_seq + self._every)

    def goes_with(
        self, ledger: Ledger, decisions: Sequence[Decision], at: datetime
    ) -> Sequence[Outgoing]:
        """Return the records of a snapshot that includes `decisions`, if one is due."""
        events = [message for decision in decisions for message in decision.events]
        if events:
            self._last_event_id = events[-1].meta.event_id
        if not events or not self._is_possible or ledger.seq < self._due_seq:
            return ()
        taken = Taken(
            ledger=ledger, last_event_id=self._last_event_id, journal_offset=self._next_offset
        )
        self._due_seq = ledger.seq + self._every
        try:
            records = list(records_of(self._topics, take(taken, at=at)))
        except SnapshotTooBig as error:
            logger.warning("snapshot.too_big", partition=ledger.partition, error=str(error))
            return self._gave_up("too_big")
        except Exception:
            logger.exception("snapshot.failed", partition=ledger.partition)
            return self._gave_up("failed")
        self._trying_seq = ledger.seq
        return records

    def _gave_up(self, outcome: str) -> Sequence[Outgoing]:
        self._due_seq += self._every * (PATIENCE - 1)
        self._metrics.snapshots.add(1, {"outcome": outcome})
        return ()

    def committed(self, records: Sequence[Outgoing], positions: Sequence[Position]) -> None:
        """Learn where the records of a batch stand."""
        size = 0
        for record, position in zip(records, positions, strict=True):
            if record.topic == self._topics.events:
                self._next_offset = position.offset + 1
            elif record.topic == self._topics.snapshots:
                size += len(record.value or b"")
        if size:
            self._trying_seq = 0
            self._metrics.snapshots.add(1, {"outcome": "written"})
            self._metrics.snapshot_bytes.record(size)
