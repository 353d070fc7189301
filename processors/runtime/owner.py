"""Owns one partition: fence, fold, then drain → decide → commit, for as long as it may.

Memory never runs ahead of the log: after any failure the ledger is thrown away and the journal
is folded again. Never writes outside its transactions.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from events.codec import decode_command, decode_report, type_name
from events.errors import LogUnavailable, RecordTooBig, TeoError, Undecodable
from events.facts import InputSetAside
from events.letters import REPLAYED_FROM, pool_of, told
from events.log import Log, Outgoing, Partition, Reader, Record, Writer
from events.message import CommandMessage, ReportMessage
from events.topics import Topics
from processors.runtime.ahead import refuse_if_behind
from processors.runtime.footing import AGE_S_MAX, Footing, TopicWatch
from processors.runtime.inputs import Inputs, input_id
from processors.runtime.log_time import Clock
from processors.runtime.metrics import RuntimeMetrics
from processors.runtime.places import Places
from processors.runtime.records import command_id_of, records_of, set_aside_record
from processors.runtime.recovery import Recovered, resume
from processors.runtime.snapshot import fingerprint
from processors.runtime.snapshot_writer import EVENTS_PER_SNAPSHOT, SnapshotWriter
from processors.runtime.standing import Standing, facts_told
from processors.runtime.timekeeper import Timed, Timekeeper
from processors.runtime.waits import waits
from processors.scheduler import core
from processors.scheduler.decision import Decision, Input, Tick
from processors.scheduler.state import Ledger

INPUTS_PER_BATCH_MAX = 500
INPUTS_UNMARKED_MAX = 10_000
"""So many inputs that lead to nothing, most of them heartbeats, are read again at a takeover."""
TICK_S = 0.25
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 5.0
LOOK_EVERY_S = 2.0
"""So often the topics are looked at while nothing comes."""
POISON_MAX = 1_000
ASKED_MAX = 100

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """The live state of a partition between two batches: all of it is on the log."""

    partition: int
    seq: int
    fingerprint: str
    snapshot: int
    """Seq of the snapshot its owner began with; 0: none."""


Place = tuple[str, int]
"""Topic and offset of an input."""


class _Poisoned(Exception):
    """Raised when the ledger is spoiled, and what did it is remembered: it is not met again."""


class Owner:
    """The life of one partition in this process."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        partition: int,
        clock: Clock,
        metrics: RuntimeMetrics,
        *,
        snapshot_every: int = EVENTS_PER_SNAPSHOT,
        watch: TopicWatch | None = None,
    ) -> None:
        self._log = log
        self._topics = topics
        self._number = partition
        self._clock = clock
        self.times = Timekeeper(partition, clock, metrics)
        self._batch = INPUTS_PER_BATCH_MAX
        """Inputs in a transaction: fewer after one that failed, until one gets through."""
        self._is_serving = False
        self._due: tuple[Tick, Mapping[Partition, int]] | None = None
        """A tick at which something is due, and where the inputs ended then."""
        self._metrics = metrics
        self._poison: dict[Place, Exception] = {}
        self._doubted: set[Place] = set()
        """Inputs of a batch that was too big, not decided yet: each is taken alone."""
        self._snapshots = SnapshotWriter(topics, metrics, snapshot_every)
        self._asked: list[asyncio.Future[LiveState]] = []
        self._snapshot = 0
        reads = {each.topic: 0 for each in self._inputs}
        self.standing = Standing(partition, clock.now, reads=reads)
        watch = watch or TopicWatch(log, topics, clock.monotonic_s)
        self._footing = Footing(log, topics, metrics, watch)
        self._places = Places(log, topics, partition)
        self.ledger: Ledger | None = None
        """The live state, for checks and metrics; None while there is none."""

    @property
    def _inputs(self) -> list[Partition]:
        return [Partition(t, self._number) for t in (self._topics.commands, self._topics.reports)]

    async def state(self) -> LiveState:
        """Return the live state as it is between two batches; the caller limits the wait."""
        assert len(self._asked) < ASKED_MAX, "too many ask for the state at once"
        future: asyncio.Future[LiveState] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        return await future

    def _answer(self, ledger: Ledger) -> None:
        asked, self._asked = self._asked, []
        if any(not future.done() for future in asked):
            state = LiveState(
                partition=self._number,
                seq=ledger.seq,
                fingerprint=fingerprint(ledger),
                snapshot=self._snapshot,
            )
            for future in asked:
                if not future.done():
                    future.set_result(state)

    async def run(self) -> None:
        """Serve until cancelled; recover from whatever happens."""
        backoff_s = BACKOFF_S_FIRST
        while True:
            wait_s, backoff_s = backoff_s, min(BACKOFF_S_MAX, 2 * backoff_s)
            try:
                await self._serve()
            except _Poisoned:
                wait_s, backoff_s = 0.0, BACKOFF_S_FIRST
            except TeoError as error:
                wait_s = self.standing.fell(error) or wait_s
            except Exception:
                logger.exception("partition.crashed", partition=self._number)
                self.standing.crashed()
            if self._is_serving:
                backoff_s = BACKOFF_S_FIRST
            self.ledger, self._is_serving = None, False
            self._metrics.recoveries.add(1)
            await asyncio.sleep(wait_s)

    async def _serve(self) -> None:
        started_s = self._clock.monotonic_s()
        writer = await self._log.open_writer(self._topics.writer(self._number))
        try:
            found = await self._recover(started_s)
            ledger = found.ledger
            writer.expect(Partition(self._topics.events, self._number), found.end)
            inputs = await self._footing.find(ledger)
            self.standing.reads = {each.topic: at for each, at in inputs.starts.items()}
            reader = await self._log.open_reader(inputs.starts)
            try:
                self.ledger = ledger
                self._due = None
                self.times.begin(ledger.now)
                await self._put_down(ledger, writer, inputs)
                await self._decide_for_ever(ledger, reader, writer)
            finally:
                await reader.close()
        finally:
            await writer.close()

    async def _recover(self, started_s: float) -> Recovered:
        told = self.standing.remember(await facts_told(self._log, self._topics, self._number))
        found = await resume(self._log, self._topics, self._number)
        await refuse_if_behind(self._log, self._topics, found.ledger, seq=told)
        await self._places.look(found.ledger)
        took_s = self._clock.monotonic_s() - started_s
        logger.info(
            "partition.recovered",
            partition=self._number,
            events=found.ledger.seq,
            snapshot=found.from_seq,
            took_s=took_s,
        )
        self._metrics.recovery.record(took_s)
        for reason in found.skipped:
            self._metrics.snapshots_skipped.add(1, {"reason": reason})
        self._snapshots.begin(found)
        self._snapshot = found.from_seq
        return found

    async def _put_down(self, ledger: Ledger, writer: Writer, inputs: Inputs) -> None:
        """Say on the journal where the inputs go on, before any of them is decided."""
        now = self.times.now()
        decisions = inputs.decisions(ledger, at=now, actor=core.SCHEDULER)
        await self._commit(writer, decisions, [], ())

    async def _decide_for_ever(self, ledger: Ledger, reader: Reader, writer: Writer) -> None:
        ticked_s = self._clock.monotonic_s()
        while True:
            self._answer(ledger)
            records_max = 1 if self._doubted else self._batch
            self.times.before_poll(reader, self._inputs)
            records = await reader.poll(records_max=records_max, wait_s=TICK_S)
            await self._footing.check(age_s_max=AGE_S_MAX if records else LOOK_EVERY_S)
            outgoing: list[Outgoing] = []
            before = self.times.now()
            timed = self.times.timed(records)
            decisions = self._bind(ledger, timed, before)
            decisions += [made for each in timed for made in self._decide(ledger, each, outgoing)]
            decisions += _marked(ledger, timed)
            if self._doubted:  # Time must not add to what is on trial.
                await self._commit(writer, decisions, outgoing, records)
                records, decisions, outgoing = [], [], []
            if self._clock.monotonic_s() - ticked_s >= TICK_S:
                tick = await self._certain_tick(ledger, reader)
                if tick is not None:
                    ticked_s = tick.monotonic_s
                    decisions += core.tick(ledger, tick)
            await self._commit(writer, decisions, outgoing, records)
            self._batch = min(INPUTS_PER_BATCH_MAX, 2 * self._batch)
            self._is_serving = True
            self.standing.serves(records, ledger.seq)

    def _bind(self, ledger: Ledger, timed: Sequence[Timed], before: datetime) -> list[Decision]:
        """Return the fact of which topics these are, if inputs came and it is not known yet.

        It is of the time that was known `before` the inputs; on an empty journal nothing was, and
        it is of the first one's time.
        """
        found = self._footing.bound_now() if timed else None
        if found is None:
            return []
        return [core.about_partition(ledger, found, at=before if ledger.seq else timed[0].at)]

    async def _certain_tick(self, ledger: Ledger, reader: Reader) -> Tick | None:
        """Return the passing of time as far as it can be judged; None: not yet.

        What is due may not be: a report that says so, or a heartbeat, may still be unread. So it is
        decided at the time it was found due, once all is read that was on the log then.
        """
        tick = Tick(now=self.times.now(), monotonic_s=self._clock.monotonic_s())
        if self._due is None:
            if not core.is_due(ledger, tick):
                return tick
            self._due = tick, await self._log.ends(self._inputs)
        tick, ends = self._due
        for each, end in ends.items():
            if await reader.position(each) < end:
                return None
        self._due = None
        return tick

    def _decide(self, ledger: Ledger, timed: Timed, outgoing: list[Outgoing]) -> Iterator[Decision]:
        if timed.jump_s:  # It is a fact before anything is decided of the input that told it.
            yield core.clock_jumped(ledger, timed.jump(), at=timed.at, pool=pool_of(timed.record))
        yield self._decide_input(ledger, timed, outgoing)

    def _decide_input(self, ledger: Ledger, timed: Timed, outgoing: list[Outgoing]) -> Decision:
        record = timed.record
        try:
            is_command = record.topic == self._topics.commands
            message = (decode_command if is_command else decode_report)(record.value)
        except Undecodable as error:
            return self._set_aside(ledger, timed, self._poison.get(_place(record), error), outgoing)
        given = Input(
            topic=record.topic,
            offset=record.offset,
            at=timed.at,
            received_s=self._clock.monotonic_s(),
            message=message,
        )
        fault = self._poison.get(_place(record)) or self._places.fault(message.meta.pool)
        if fault is None and REPLAYED_FROM not in record.headers:
            fault = core.too_late(ledger, given, record.timestamp)
        if fault is not None:
            return self._set_aside(ledger, timed, fault, outgoing, message)
        try:
            decision = core.handle(ledger, given)
        except Exception as error:
            assert len(self._poison) < POISON_MAX, "too many poisonous inputs: stop and look"
            self._poison[_place(record)] = error
            raise _Poisoned from error
        for reason in decision.ignored:
            self._metrics.ignored.add(1, {"type": type_name(message), "reason": reason})
        return decision

    def _set_aside(
        self,
        ledger: Ledger,
        timed: Timed,
        error: Exception,
        outgoing: list[Outgoing],
        message: CommandMessage | ReportMessage | None = None,
    ) -> Decision:
        record = timed.record
        logger.error(
            "input.set_aside",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )
        reason = error.code if isinstance(error, TeoError) else "crashed"
        self._metrics.set_aside.add(1, {"topic": record.topic, "reason": reason})
        outgoing.append(set_aside_record(self._topics, record, error, self.times.now()))
        aside = InputSetAside(
            source_topic=record.topic,
            source_offset=record.offset,
            error=told(error),
            code=reason,
            command_id=command_id_of(record, message, self._topics),
        )
        return core.set_aside(
            ledger, aside, input_id=input_id(record), at=timed.at, pool=pool_of(record)
        )

    async def _commit(
        self,
        writer: Writer,
        decisions: Sequence[Decision],
        outgoing: list[Outgoing],
        records: Sequence[Record],
    ) -> None:
        """Write what was decided of `records` and of time, all of it or nothing."""
        assert self.ledger is not None
        outgoing += records_of(self._topics, self._number, decisions)
        outgoing += self._snapshots.goes_with(self.ledger, decisions, self._clock.now())
        if not outgoing:
            self._settle(records)
            self.times.keep()
            return
        started_s = self._clock.monotonic_s()
        try:
            positions = await writer.commit(outgoing)
        except RecordTooBig as error:
            self._blame(records, outgoing, error)
            raise
        except LogUnavailable:
            self._batch = max(1, self._batch // 2)
            raise
        self._settle(records)
        self.times.keep()
        self._snapshots.committed(outgoing, positions)
        self._metrics.commit.record(self._clock.monotonic_s() - started_s)
        self._metrics.batch.record(len(outgoing))
        self._metrics.events.add(sum(len(decision.events) for decision in decisions))
        for wait in waits(self.ledger, decisions):
            self._metrics.wait.record(wait.seconds, {"pool": wait.pool, "kind": wait.kind})

    def _blame(
        self, records: Sequence[Record], outgoing: Sequence[Outgoing], error: RecordTooBig
    ) -> None:
        """Find out whose decision was too big, and raise `_Poisoned` if that is of use.

        Of a batch the inputs are taken one by one; one that was alone is poison. It returns when
        time is to blame, or the dead letter of an input: both would only come again.
        """
        if any(each.topic == self._topics.snapshots for each in outgoing):
            # It may be to blame, and no input may be in its place: the next batch has none.
            logger.warning("snapshot.refused", partition=self._number, error=str(error))
            raise _Poisoned from error
        places = {_place(record) for record in records}
        if not places or places <= self._poison.keys():
            return
        logger.warning("partition.batch_too_big", partition=self._number, error=str(error))
        if len(places) == 1 and places <= self._doubted:
            self._poison |= dict.fromkeys(places, error)
        self._doubted |= places
        raise _Poisoned from error

    def _settle(self, records: Sequence[Record]) -> None:
        """Forget what was held against inputs that are decided now."""
        if not self._doubted and not self._poison:
            return
        for place in map(_place, records):
            self._doubted.discard(place)
            self._poison.pop(place, None)


def _place(record: Record) -> Place:
    return record.topic, record.offset


def _marked(ledger: Ledger, timed: Sequence[Timed]) -> Iterator[Decision]:
    """Yield the fact that inputs which led to nothing are done with, once they are many."""
    for topic, each in {each.record.topic: each for each in timed}.items():
        record = each.record
        if record.offset - ledger.positions.get(topic, -1) >= INPUTS_UNMARKED_MAX:
            yield core.inputs_read(
                ledger,
                topic=topic,
                offset=record.offset,
                input_id=input_id(record),
                at=each.at,
                pool=pool_of(record),
            )
