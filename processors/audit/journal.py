"""Replays the journal of one partition from its start: every rule, and every copy of its state.

Memory is bounded by what is open and by the ids of what is over, not by the events. Never stops
at a fault: it says what is wrong and reads on.
"""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from events import facts
from events.codec import decode_event
from events.errors import Undecodable
from events.ids import is_in_place
from events.log import Log, Partition, Record
from events.message import EventMessage
from events.quarantine import Quarantine
from events.reading import read_until
from events.topics import Topics
from processors.audit.findings import Finding, Findings, about, ids_of
from processors.audit.inputs import Decided
from processors.audit.rule import Rule
from processors.audit.rules import rules_of
from processors.audit.snapshots import Stock, Stored, stock_of
from processors.runtime.snapshot import fingerprint
from processors.runtime.standing import facts_told
from processors.scheduler.evolve import fold
from processors.scheduler.state import EPOCH, Ledger

_OF_PARTITIONS = (
    facts.InputSetAside
    | facts.InputsRead
    | facts.ClockJumped
    | facts.TopicsBound
    | facts.InputsReset
    | facts.RecordQuarantined
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a scheduler says of its live state."""

    source: str
    seq: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an execution ended, by the journal."""

    verdict: str
    at: datetime
    partition: int
    offset: int
    seq: int


@dataclass(slots=True)
class Audited:
    """What the journal of one partition holds, as far as other topics must agree with it."""

    partition: int
    events: int = 0
    snapshots: int = 0
    """How many were compared with the fold."""
    live: int = 0
    """How many live states were."""
    ends: dict[str, End] = field(default_factory=dict)
    set_aside: dict[tuple[str, int, int], datetime] = field(default_factory=dict)
    """Inputs that went to the dead letters: topic, partition, offset."""
    commands: dict[str, int] = field(default_factory=dict)
    """Commands that were decided, each with the seq of its first event."""
    begun_anew_at: datetime = EPOCH
    """When it was begun after a journal that was lost: what was told before is of that one."""
    inputs: Decided = field(default_factory=Decided)
    """Which inputs it was decided from."""


Progress = Callable[[int, int, int], None]
"""Told of (partition, offset reached, offset at the end)."""


class JournalAudit:
    """The replay of one partition."""

    def __init__(self, log: Log, topics: Topics, number: int, findings: Findings) -> None:
        self._log = log
        self._events = Partition(topics.events, number)
        self._topics = topics
        self._findings = findings
        self._rules: list[Rule] = rules_of(number)
        self._ledger: Ledger | None = Ledger(number)
        """None once an event could not be applied."""
        self._last: EventMessage | None = None
        self._has_first = False
        """True once the first of all its facts was seen."""
        self._partitions = 0
        self._quarantine = Quarantine(log, self._events)
        self.result = Audited(number)

    async def run(
        self, live: list[Live], *, has_snapshots: bool, progress: Progress | None = None
    ) -> Audited:
        """Read it all. `live` must have been asked for before. Raises `LogUnavailable`."""
        number = self._events.number
        stock = await stock_of(self._log, self._topics, number) if has_snapshots else Stock()
        self._note_unusable(stock)
        self._partitions = await self._log.partitions(self._events.topic)
        inputs = [Partition(topic, number) for topic in self._topics.inputs]
        kept = await self._log.begins(inputs)
        self.result.inputs.begins = {each.topic: begin for each, begin in kept.items()}
        end = (await self._log.ends([self._events]))[self._events]
        begin = (await self._log.begins([self._events]))[self._events]
        snapshots = stock.by_seq()
        async with aclosing(read_until(self._log, self._events, begin, end)) as batches:
            async for records in batches:
                for record in records:
                    if not await self._passes_over(record):
                        self._see(record, snapshots, live)
                if progress is not None and records:
                    progress(number, records[-1].offset + 1, end)
        if not self._has_first:
            await self._look_for_loss(begin)
        for rule in self._rules:
            for text in rule.end():
                self._say(rule.name, text)
        self._compare_ahead(snapshots, live)
        return self.result

    async def _look_for_loss(self, begin: int) -> None:
        """Say what is known of facts before those that are there."""
        if begin > 0:
            self._say("journal_is_kept", f"it begins at offset {begin}: what was before is lost")
            return
        told = await facts_told(self._log, self._topics, self._events.number)
        if told:
            text = f"it is empty, and its schedulers told their group that it had {told} facts"
            self._say("journal_is_kept", text)

    def _say(
        self, rule: str, text: str, *, topic: str = "", offset: int = -1, seq: int = -1
    ) -> None:
        last = self._last
        self._findings.add(
            Finding(
                rule=rule,
                text=text,
                topic=topic or self._events.topic,
                partition=self._events.number,
                offset=offset,
                seq=seq if seq >= 0 or last is None else last.meta.seq,
                ids=() if last is None or topic else ids_of(last),
            )
        )

    def _note_unusable(self, stock: Stock) -> None:
        for each in stock.unusable:
            if each.reason != "format":  # Another version's, which this one rightly leaves alone.
                text, topic = f"{each.reason}: {each.text}", self._topics.snapshots
                self._say(
                    "snapshots_are_whole", text, topic=topic, offset=each.offset, seq=each.seq
                )

    async def _passes_over(self, record: Record) -> bool:
        """Return True if no scheduler wrote `record`, and a later fact says to leave it out."""
        due = 0 if self._last is None else self._last.meta.seq + 1
        try:
            meta = decode_event(record.value).meta
        except Undecodable:
            return await self._quarantine.passes_over(record, due)
        if meta.seq == due and is_in_place(meta, record.partition):
            return False
        return await self._quarantine.passes_over(record, due)

    def _check_quarantined(self, record: Record, message: EventMessage) -> None:
        body = message.body
        if isinstance(body, facts.RecordQuarantined) and body.offset not in self._quarantine.passed:
            text = f"the record at offset {body.offset} that it names is a fact, or is not there"
            self._findings.add(about("quarantined_records_are_no_facts", text, record, message))

    def _see(self, record: Record, snapshots: Mapping[int, list[Stored]], live: list[Live]) -> None:
        self.result.events += 1
        try:
            message = decode_event(record.value)
        except Undecodable as error:
            self._findings.add(about("events_are_known", str(error), record, None))
            self._ledger = None
            return
        self._last = message
        self._check_place(record, message)
        self._check_quarantined(record, message)
        for rule in self._rules:
            for text in rule.see(message):
                self._findings.add(about(rule.name, text, record, message))
        self._note(record, message)
        self._fold(record, message)
        if self._ledger is not None:
            self._compare(record, message, snapshots.get(self._ledger.seq, ()), live)

    def _check_place(self, record: Record, message: EventMessage) -> None:
        pool = message.meta.pool.encode()
        if isinstance(message.body, _OF_PARTITIONS):
            return  # It is where its input was, whatever the key of that, or of no pool.
        if record.key != pool:
            text = f"its key is {record.key!r}, its pool {message.meta.pool!r}"
            self._findings.add(about("a_pool_has_its_partition", text, record, message))
        elif (due := self._log.partition_for(pool, self._partitions)) != record.partition:
            text = f"pool {message.meta.pool!r} belongs into partition {due}"
            self._findings.add(about("a_pool_has_its_partition", text, record, message))

    def _note(self, record: Record, message: EventMessage) -> None:
        meta = message.meta
        self._has_first |= not meta.seq
        self.result.inputs.see(message)
        if not meta.seq and isinstance(message.body, facts.InputsReset):
            self.result.begun_anew_at = meta.occurred_at
        if meta.request_hash and meta.index == 0:
            self.result.commands.setdefault(meta.causation_id, meta.seq)
        match message.body:
            case facts.ExecutionFinished() as ended:
                self.result.ends[ended.execution_id] = End(
                    verdict=ended.verdict,
                    at=meta.occurred_at,
                    partition=record.partition,
                    offset=record.offset,
                    seq=meta.seq,
                )
            case facts.InputSetAside() as aside:
                key = (aside.source_topic, record.partition, aside.source_offset)
                self.result.set_aside[key] = meta.occurred_at

    def _fold(self, record: Record, message: EventMessage) -> None:
        if self._ledger is None:
            return
        try:
            fold(self._ledger, message)
        except (KeyError, AttributeError, ValueError) as error:
            text = f"cannot be applied: {error!r}; states are not compared from here on"
            self._findings.add(about("journal_can_be_folded", text, record, message))
            self._ledger = None

    def _compare(
        self,
        record: Record,
        message: EventMessage,
        snapshots: list[Stored] | tuple[()],
        live: list[Live],
    ) -> None:
        assert self._ledger is not None
        here = [each for each in live if each.seq == self._ledger.seq]
        if not here and not snapshots:
            return
        folded = fingerprint(self._ledger)
        is_whole = message.meta.index == message.meta.count - 1
        for each in here:
            self.result.live += 1
            if each.fingerprint != folded or not is_whole:
                text = f"the live state of {each.source} at seq {each.seq} is another"
                self._findings.add(about("live_state_is_the_fold", text, record, message))
        for stored in snapshots:
            self.result.snapshots += 1
            is_its_end = is_whole and stored.last_event_id == message.meta.event_id
            if stored.fingerprint != folded or not is_its_end:
                text = f"the snapshot of seq {stored.seq} at offset {stored.offset} is another"
                self._findings.add(about("snapshot_is_the_fold", text, record, message))

    def _compare_ahead(self, snapshots: Mapping[int, list[Stored]], live: list[Live]) -> None:
        if self._ledger is None:
            return
        seq = self._ledger.seq
        for each in live:
            if each.seq > seq:
                text = f"the live state of {each.source} is at seq {each.seq}, the journal at {seq}"
                self._say("live_state_is_the_fold", text, seq=each.seq)
            elif each.seq == 0:
                self.result.live += 1
                if each.fingerprint != fingerprint(Ledger(self._events.number)):
                    self._say("live_state_is_the_fold", f"{each.source} knows what no event says")
        for stored in (one for found in snapshots.values() for one in found):
            if stored.seq > seq:
                text = f"a snapshot is at seq {stored.seq}, the journal at {seq}"
                self._say(
                    "snapshot_is_the_fold",
                    text,
                    topic=self._topics.snapshots,
                    offset=stored.offset,
                    seq=stored.seq,
                )
