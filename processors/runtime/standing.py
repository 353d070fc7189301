"""How one partition stands: served, being recovered, or standing still, why and since when.

Its owner keeps it; `/readyz` of the scheduler shows it, and the scheduler's group tells it to
whoever asks the log, so that the API knows which partitions nobody serves.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import structlog

from events.errors import (
    Fenced,
    InputsShort,
    JournalBehind,
    JournalBroken,
    RecordTooBig,
    TeoError,
)
from events.log import Log, Noted, Partition, Record
from events.topics import Topics

STANDS_STILL: Mapping[type[TeoError], str] = MappingProxyType(
    {
        JournalBroken: "partition.journal_broken",
        JournalBehind: "partition.journal_behind",
        InputsShort: "partition.inputs_short",
        RecordTooBig: "partition.record_too_big",
    }
)
"""Errors with which a partition stands still until somebody does something, and how they are
said."""
STILL_WAIT_S = 5.0
FENCED_WAIT_S = 3.0
"""After being fenced: the group tells within a heartbeat interval who owns the partition now."""
DETAIL_CHARS_MAX = 900
"""What Kafka takes with an offset is 4 kB."""

logger = structlog.get_logger()


async def facts_told(log: Log, topics: Topics, number: int) -> int:
    """Return how many facts the journal of a partition had by what its owners told their group.

    0: they told nothing. Raises `LogUnavailable`.
    """
    inputs = [Partition(topic, number) for topic in topics.inputs]
    noted = await log.noted(topics.scheduler_group, inputs)
    return max((_told_seq(each.text) for each in noted.values()), default=0)


def _told_seq(text: str) -> int:
    try:
        said = json.loads(text)
    except ValueError:
        return 0
    seq = said.get("seq") if isinstance(said, dict) else None
    return seq if isinstance(seq, int) else 0


@dataclass(slots=True)
class Standing:
    """How the partition with this number stands."""

    partition: int
    now: Callable[[], datetime]
    state: str = "recovering"
    """serving, recovering, or broken: it stands still until somebody does something."""
    code: str = ""
    detail: str = ""
    since: datetime | None = None
    turns: int = 0
    """Rises as long as the owner goes round: one that hangs says the same for ever."""
    reads: Mapping[str, int] = field(default_factory=dict)
    """For each topic of inputs, the offset that is read next; 0 as long as none was found."""
    seq: int | None = None
    """How many facts its journal had when it was served last; None: nobody looked yet."""

    def remember(self, told: int) -> int:
        """Take over, and return, how many facts the journal had by what was told of it before."""
        self.seq = max(self.seq or 0, told)
        return self.seq

    def serves(self, records: Sequence[Record], seq: int) -> None:
        """Note a turn in which all went well, with a journal of `seq` facts."""
        self.turns += 1
        self.seq = seq
        if records:
            self.reads = {**self.reads, **{each.topic: each.offset + 1 for each in records}}
        self._is("serving", "", "")

    def fell(self, error: TeoError) -> float | None:
        """Note and say why the ledger is thrown away; return how long to wait, if that is known."""
        self.turns += 1
        said = next((text for kind, text in STANDS_STILL.items() if isinstance(error, kind)), None)
        if said is not None:
            logger.critical(said, partition=self.partition, error=str(error))
            self._is("broken", error.code, str(error))
            return STILL_WAIT_S
        self._is("recovering", error.code, str(error))
        if isinstance(error, Fenced):
            logger.warning("partition.fenced", partition=self.partition, error=str(error))
            return FENCED_WAIT_S
        logger.warning(
            "partition.failed", partition=self.partition, code=error.code, error=str(error)
        )
        return None

    def crashed(self) -> None:
        """Note a fault of ours, which the log of the process has in full."""
        self.turns += 1
        self._is("recovering", "crashed", "a fault of the scheduler: see its log")

    def _is(self, state: str, code: str, detail: str) -> None:
        if (state, code) != (self.state, self.code) or self.since is None:
            self.since = self.now()
        self.state, self.code, self.detail = state, code, detail

    def told(self) -> Mapping[str, object]:
        """Return it as JSON values."""
        return {
            "state": self.state,
            "code": self.code,
            "detail": self.detail[:DETAIL_CHARS_MAX],
            "since": "" if self.since is None else self.since.isoformat(),
        }

    def notes(self) -> Mapping[Partition, Noted]:
        """Return what the group is told: for each topic how far it is read, and how it stands.

        Nothing as long as it is not known what was told before: that would be overwritten.
        """
        if self.seq is None:
            return {}
        told = {**self.told(), "turns": self.turns, "seq": self.seq}
        text = json.dumps(told, ensure_ascii=False)
        return {
            Partition(topic, self.partition): Noted(offset, text)
            for topic, offset in self.reads.items()
        }
