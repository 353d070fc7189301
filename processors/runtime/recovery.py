"""Folds the journal of one partition into a ledger; refuses a journal that breaks its own rules.

Never guesses: a hole in `seq`, half a decision or a fact it does not know stops the partition,
because a writer must not decide on half a history.
"""

import asyncio

from events.codec import decode_event
from events.errors import JournalBroken, Undecodable
from events.log import Log, Partition, Reader, Record
from events.message import EventMessage
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger

RECORDS_MAX = 2_000
WAIT_S = 0.5
STALLED_S_MAX = 30.0
"""A fold that reads nothing for this long although there is more is given up, and begun anew."""


class Journal:
    """Checks, event by event, that the journal of one partition is whole."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.seq = 0
        self.left = 0
        """How many events of the decision being read are still to come."""

    def check(self, message: EventMessage, offset: int) -> None:
        """Raise `JournalBroken` unless `message` is the next of the journal."""
        meta = message.meta
        at = f"journal partition {self.partition}, offset {offset}"
        if meta.seq != self.seq:
            raise JournalBroken(f"{at}: seq {meta.seq} where {self.seq} was due")
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


async def recover(log: Log, partition: Partition) -> Ledger:
    """Return the ledger that the journal up to its end gives.

    Raises `JournalBroken`; `LogUnavailable` if the journal cannot be read now.
    """
    ledger = Ledger(partition.number)
    journal = Journal(partition.number)
    end = (await log.ends([partition]))[partition]
    start = (await log.begins([partition]))[partition]
    reader = await log.open_reader({partition: start})
    try:
        await _fold_to(reader, partition, end, ledger, journal)
    finally:
        await reader.close()
    journal.finish()
    return ledger


async def _fold_to(
    reader: Reader, partition: Partition, end: int, ledger: Ledger, journal: Journal
) -> None:
    clock = asyncio.get_running_loop().time
    progress_s = clock()
    while await reader.position(partition) < end:
        records = await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S)
        for record in records:
            _apply(record, ledger, journal)
        if records:
            progress_s = clock()
        elif clock() - progress_s > STALLED_S_MAX:
            raise JournalBroken(
                f"journal partition {partition.number}: nothing read for {STALLED_S_MAX:.0f} s "
                f"although it goes on to offset {end}"
            )


def _apply(record: Record, ledger: Ledger, journal: Journal) -> None:
    try:
        message = decode_event(record.value)
        journal.check(message, record.offset)
        fold(ledger, message)
    except Undecodable as error:
        raise JournalBroken(
            f"journal partition {record.partition}, offset {record.offset}: {error}; "
            "a writer must know every event: run a version that does"
        ) from error
    except (KeyError, AttributeError, ValueError) as error:
        raise JournalBroken(
            f"journal partition {record.partition}, offset {record.offset}: cannot be applied: "
            f"{error!r}"
        ) from error
