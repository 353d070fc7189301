"""Whether the inputs of a partition are those its journal was decided from, and where to go on.

Topics can be made anew, and the last records of one can be lost in a power cut and other records
come to stand in their places. So a recovery does not believe an offset alone. It compares Kafka's
id of each topic with the one the journal keeps, its end with the position, and the record at the
position with the input that was decided there. Where they differ it looks for the newest record
that the journal knows as decided at its place, goes on behind that one, and says so in a fact:
nothing that was decided is decided again, and nothing that came since is passed over.

Deciding an input again that led to nothing is harmless; so is reading one that is known.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from events.codec import decode, decode_event
from events.errors import InputsShort, Undecodable
from events.facts import InputsReset, TopicsBound
from events.ids import ID_HEADER
from events.log import Identity, Log, Partition, Record
from events.message import Message
from events.reading import read_until
from events.shared import CommandMeta, ReportMeta
from events.topics import Topics, prefix_flag
from processors.scheduler import core
from processors.scheduler.decision import Decision
from processors.scheduler.state import Ledger

SPAN_FIRST = 1_000
SPAN_GROWTH = 8
SPAN_MAX = 50_000
"""So many inputs are held at once, and the whole journal is read for each such span."""


def input_id(record: Record) -> str:
    """Return the id that an input says it has; of one that says none, what its bytes say."""
    try:
        message = decode(record.value)
    except Undecodable:
        message = None
    meta = message.meta if isinstance(message, Message) else None
    if isinstance(meta, CommandMeta):
        return meta.command_id
    if isinstance(meta, ReportMeta):
        return meta.report_id
    return _digest(record)


def is_input(record: Record, known: str) -> bool:
    """Return True if `record` is the input that a journal knows as `known`.

    Versions differ in what they can decode: so its bytes and its header count as well.
    """
    header = record.headers.get(ID_HEADER, b"").decode("utf-8", "replace")
    return known in (header, input_id(record), _digest(record))


def _digest(record: Record) -> str:
    return f"sha256:{sha256(record.value or b'').hexdigest()}"


def bound_topics(topics: Topics) -> Sequence[str]:
    """Return the topics whose ids a journal keeps: its own too, which a restore may change."""
    return *topics.inputs, topics.events, topics.tasks, topics.results, topics.dlq


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Inputs that retention took before anybody decided them."""

    partition: Partition
    first: int
    count: int

    def fact(self, identity: Identity | None) -> InputsReset:
        """Return what the journal says of it."""
        following = self.first + self.count
        return InputsReset(
            topic=self.partition.topic,
            topic_id="" if identity is None else identity.id,
            next_offset=following,
            was_offset=self.first,
            reason=(
                f"the topic begins at offset {following}: retention took inputs, or somebody "
                f"deleted them, {self.count} offsets from {self.first} on: what was not decided "
                "of them before is lost"
            ),
        )


class Reset(NamedTuple):
    """Inputs that go on from elsewhere."""

    fact: InputsReset
    newest_id: str
    """Id of the newest input that was decided and is there; empty: none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What was found: where to go on, and what has to be put down before."""

    starts: Mapping[Partition, int]
    identities: Mapping[str, Identity]
    """As they were before anything else was asked."""
    resets: tuple[Reset, ...]
    bound: TopicsBound | None
    """None: the journal has the ids that the topics have."""
    expired: tuple[Expired, ...]

    def decisions(self, ledger: Ledger, *, at: datetime, actor: str) -> list[Decision]:
        """Return what is put down of inputs that are lost, and with it which topics these are.

        Nothing if none are: ids alone can wait for an input.
        """
        found = [
            core.about_partition(ledger, reset.fact, at=at, actor=actor, cause=reset.newest_id)
            for reset in self.resets
        ]
        for lost in self.expired:
            fact = lost.fact(self.identities.get(lost.partition.topic))
            found.append(core.about_partition(ledger, fact, at=at, actor=actor))
        if found and self.bound is not None:
            found.append(core.about_partition(ledger, self.bound, at=at, actor=actor))
        return found


async def look_at_inputs(
    log: Log, topics: Topics, ledger: Ledger, *, is_short_accepted: bool = False
) -> Inputs:
    """Compare the inputs with what `ledger` knows of them.

    Raises `InputsShort` where inputs end too early and another broker may have the rest, unless an
    operator accepted that; `LogUnavailable`.
    """
    number = ledger.partition
    inputs = [Partition(topic, number) for topic in topics.inputs]
    identities = await log.identify(bound_topics(topics))
    begins, ends = await log.begins(inputs), await log.ends(inputs)
    starts: dict[Partition, int] = {}
    resets: list[Reset] = []
    for each in inputs:
        identity = identities.get(each.topic)
        view = _View(log, topics, ledger, each, begins[each], ends[each], identity)
        reset = await view.reset(is_short_accepted=is_short_accepted)
        if reset is not None:
            resets.append(reset)
        starts[each] = max(begins[each], view.due if reset is None else reset.fact.next_offset)
    return Inputs(
        starts=starts,
        identities=identities,
        resets=tuple(resets),
        bound=_bound(ledger, identities),
        expired=tuple(_expired(ledger, begins, resets)),
    )


def _bound(ledger: Ledger, identities: Mapping[str, Identity]) -> TopicsBound | None:
    """Return the fact that other ids are known than the journal has."""
    found = ledger.topics | {name: each.id for name, each in identities.items() if each.id}
    if found == ledger.topics:
        return None
    anew = [name for name, known in ledger.topics.items() if known != found[name]]
    if anew:
        reason = f"made anew, or of another cluster: {', '.join(sorted(anew))}"
    else:
        reason = "their ids were not known before"
    return TopicsBound(topics=found, reason=reason)


def _expired(
    ledger: Ledger, begins: Mapping[Partition, int], resets: Sequence[Reset]
) -> Iterator[Expired]:
    reset = {each.fact.topic for each in resets}
    for each, begin in begins.items():
        due = ledger.positions.get(each.topic, -1) + 1
        if ledger.seq and begin > due and each.topic not in reset:
            yield Expired(partition=each, first=due, count=begin - due)


@dataclass(frozen=True, slots=True)
class _View:
    """One topic of inputs, as it is now, beside what the journal knows of it."""

    log: Log
    topics: Topics
    ledger: Ledger
    partition: Partition
    begin: int
    end: int
    identity: Identity | None

    @property
    def due(self) -> int:
        """Offset that follows the last input that was decided."""
        return self.ledger.positions.get(self.partition.topic, -1) + 1

    async def reset(self, *, is_short_accepted: bool) -> Reset | None:
        """Return where to go on instead of at `due`, and why; None: go on there."""
        topic = self.partition.topic
        found, known = self.identity, self.ledger.topics.get(topic, "")
        is_other = bool(found is not None and found.id and known and found.id != known)
        is_short = self.end < self.due
        standing = "" if is_short else await self._stranger()
        if not (is_other or is_short or standing):
            return None
        if is_short and not (is_other or is_short_accepted):
            self._refuse_other_copies()
        newest = await self._newest_decided(SPAN_MAX if is_other else SPAN_FIRST)
        following = self.begin if newest is None else newest.offset + 1
        if following == self.due:
            return None  # It has another id and the same records: it was restored.
        fact = InputsReset(
            topic=topic,
            topic_id="" if found is None else found.id,
            next_offset=following,
            was_offset=self.due,
            reason=self._why(is_other, following, standing),
        )
        return Reset(fact, "" if newest is None else newest.input_id)

    def _refuse_other_copies(self) -> None:
        copies = 1 if self.identity is None else self.identity.copies
        if copies > 1:
            topic, number = self.partition
            raise InputsShort(
                f"{topic} partition {number} ends at offset {self.end}, but inputs up to "
                f"{self.due - 1} were decided; it has {copies} copies, so a broker that leads no "
                "more may have answered, and it is asked again. If the newest inputs are lost for "
                f"good: `teo journal accept-inputs --partition {number} --reason TEXT"
                f"{prefix_flag(topic)}`"
            )

    async def _stranger(self) -> str:
        """Return what stands where the last input was decided, if it is not that input."""
        last, known = self.due - 1, self.ledger.inputs.get(self.partition.topic, "")
        if last < self.begin or not known:
            return ""
        async with aclosing(read_until(self.log, self.partition, last, last + 1)) as batches:
            async for records in batches:
                for record in records:
                    is_it = is_input(record, known)
                    return "" if is_it else f"input {input_id(record)}, not {known}"
        return f"nothing, not input {known}"

    def _why(self, is_other: bool, following: int, standing: str) -> str:
        lost = max(0, self.due - following)
        if is_other:
            known = self.ledger.topics[self.partition.topic]
            why = f"the topic was made anew: Kafka's id of it was {known}"
        elif standing:
            why = f"at offset {self.due - 1} stands {standing}"
        else:
            why = f"the topic ends at offset {self.end}"
        return (
            f"{why}; the journal had decided inputs up to offset {self.due - 1}, of which those "
            f"from {following} on, {lost} offsets, are not there any more; what stands in their "
            "places now is decided as it comes"
        )

    async def _newest_decided(self, span: int) -> "_Known | None":
        """Return the newest record that the journal knows as decided at its place."""
        high = min(self.end, self.due)
        while high > self.begin:
            low = max(self.begin, high - span)
            there: dict[int, Record] = {}
            async with aclosing(read_until(self.log, self.partition, low, high)) as batches:
                async for records in batches:
                    there |= {record.offset: record for record in records}
            found = await self._newest_of(there)
            if found is not None:
                return found
            high, span = low, min(SPAN_MAX, span * SPAN_GROWTH)
        return None

    async def _newest_of(self, there: Mapping[int, Record]) -> "_Known | None":
        journal = Partition(self.topics.events, self.ledger.partition)
        begin, end = (await self.log.begins([journal]))[journal], (await self.log.ends([journal]))
        newest: _Known | None = None
        async with aclosing(read_until(self.log, journal, begin, end[journal])) as batches:
            async for records in batches:
                for record in records:
                    known = _known(record, self.partition.topic, there)
                    if known is not None and (newest is None or known.offset > newest.offset):
                        newest = known
        return newest


class _Known(NamedTuple):
    """An input that the journal knows, and where."""

    offset: int
    input_id: str


def _known(record: Record, topic: str, there: Mapping[int, Record]) -> _Known | None:
    """Return the input in `there` that an event of the journal was decided from."""
    try:
        meta = decode_event(record.value).meta
    except Undecodable:
        return None
    found = there.get(meta.input_offset) if meta.input_topic == topic else None
    if found is None or not meta.causation_id or not is_input(found, meta.causation_id):
        return None
    return _Known(meta.input_offset, meta.causation_id)
