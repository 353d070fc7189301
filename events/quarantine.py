"""Which records of the journal are passed over: those that are no facts, and that a fact names.

Whoever may write to the topic can put a record into the journal that no scheduler wrote. It stops
every fold there, because nobody can know what it hides. An operator who has looked at it lets
`teo journal quarantine-record` name it in a fact, by its offset and the SHA-256 of its value; from
then on each fold that comes to a record it cannot take looks whether such a fact follows.

A fact is never passed over, whatever is written later: one that decodes has the id that a scheduler
gives to its place, and one of a later version has that id in its header.
"""

from contextlib import aclosing
from hashlib import sha256

from events.codec import decode_event, name_of
from events.errors import Undecodable
from events.facts import RecordQuarantined
from events.ids import claims_place, is_in_place
from events.log import Log, Partition, Record
from events.reading import read_until

SEQS_TRIED = 64
"""So far ahead a fact that cannot be decoded is looked for, should facts before it be missing."""


def digest_of(record: Record) -> str:
    """Return the SHA-256 of the value of a record, hex; a value that is null counts as empty."""
    return sha256(record.value or b"").hexdigest()


def is_fact(record: Record, seq: int) -> bool:
    """Return True if `record` is the event with number `seq`, or one that follows it."""
    try:
        meta = decode_event(record.value).meta
    except Undecodable:
        return any(
            claims_place(record.headers, record.partition, each)
            for each in range(seq, seq + SEQS_TRIED)
        )
    return meta.seq >= seq and is_in_place(meta, record.partition)


class Quarantine:
    """The records of one partition that are passed over. Reads on only when it is asked."""

    def __init__(
        self, log: Log, partition: Partition, chosen: frozenset[int] = frozenset()
    ) -> None:
        """Pass over those at the offsets `chosen` too, whatever they are: to see what remains."""
        self._log = log
        self._partition = partition
        self._chosen = chosen
        self._named: set[tuple[int, str]] | None = None
        self.passed: dict[int, tuple[Record, int]] = {}
        """What was passed over, by offset, and the number that was due there."""
        self.named: set[int] = set()
        """Offsets of those of them that a fact names."""

    async def passes_over(self, record: Record, seq: int) -> bool:
        """Return True if `record`, which cannot be taken where `seq` is due, is passed over.

        Of several records the first must be asked for first. Raises `LogUnavailable`.
        """
        is_named = await self._is_named(record, seq)
        is_passed = is_named or record.offset in self._chosen
        if is_named:
            self.named.add(record.offset)
        if is_passed:
            self.passed[record.offset] = record, seq
        return is_passed

    async def _is_named(self, record: Record, seq: int) -> bool:
        if is_fact(record, seq):
            return False
        if self._named is None:
            self._named = await self._read(record.offset + 1)
        return (record.offset, digest_of(record)) in self._named

    async def _read(self, start: int) -> set[tuple[int, str]]:
        end = (await self._log.ends([self._partition]))[self._partition]
        found: set[tuple[int, str]] = set()
        async with aclosing(read_until(self._log, self._partition, start, end)) as batches:
            async for records in batches:
                for record in records:
                    found |= _named_by(record)
        return found


def _named_by(record: Record) -> set[tuple[int, str]]:
    try:
        if name_of(record.value) != RecordQuarantined.__name__:
            return set()
        message = decode_event(record.value)
    except Undecodable:
        return set()
    body = message.body
    if not isinstance(body, RecordQuarantined) or not is_in_place(message.meta, record.partition):
        return set()
    return {(body.offset, body.sha256)}
