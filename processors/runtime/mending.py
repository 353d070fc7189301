"""What an operator does to a partition by hand: take it over, put one thing down, leave it.

Folds the journal as an owner does, then fences the owner, and commits right behind what it has
read, or begins again; the owner recovers afterwards and finds the fact. So it cannot race
with a scheduler, and what it did is on the journal, with actor and reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

from events.codec import decode_event
from events.errors import Fenced, JournalBehind, LogUnavailable, TeoError, Undecodable
from events.facts import Event, InputsReset, RecordQuarantined, TopicsBound
from events.ids import is_in_place
from events.log import Log, Partition, Record
from events.quarantine import digest_of, is_fact
from events.reading import read_until
from events.topics import Topics
from processors.runtime.ahead import newest_told, refuse_if_behind
from processors.runtime.inputs import bound_topics, look_at_inputs
from processors.runtime.records import records_of
from processors.runtime.recovery import Recovered, fold_without, resume
from processors.runtime.standing import facts_told
from processors.scheduler import core
from processors.scheduler.decision import Decision
from processors.scheduler.state import Bench, Ledger

P = ParamSpec("P")
T = TypeVar("T")
MOMENT = timedelta(milliseconds=1)
TRIES = 5
PAUSE_S = 1.0


class NotMended(TeoError):
    """Raised when what an operator asks for would hide or double something; nothing was changed."""

    code = "not_mended"


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who does it and why, for the journal."""

    actor: str
    reason: str


async def _commit(
    log: Log, topics: Topics, found: Recovered, decisions: Sequence[Decision]
) -> None:
    """Fence the owner, and put decisions down right behind what was read.

    Only now: an owner that stands still takes the partition over again every few seconds, and may
    fold for longer than that. Who wrote meanwhile is found out by the place, which is looked for
    once more: the transaction that the owner had open, or an earlier try, is aborted only now, and
    takes offsets.
    """
    number = found.ledger.partition
    partition = Partition(topics.events, number)
    writer = await log.open_writer(topics.writer(number))
    try:
        writer.expect(partition, await _end_if_unchanged(log, partition, found.end))
        await writer.commit(list(records_of(topics, number, decisions)))
    finally:
        await writer.close()


async def _end_if_unchanged(log: Log, partition: Partition, was: int) -> int:
    """Return where the journal ends. Raises `LogUnavailable` if there is more on it than before."""
    end = (await log.ends([partition]))[partition]
    async with aclosing(read_until(log, partition, was, end)) as batches:
        async for records in batches:
            if records:
                raise LogUnavailable(f"{partition.topic}: there is more on it than was read")
    return end


async def _refuse_missing(log: Log, topics: Topics, number: int) -> None:
    """Raise `NotMended` of a partition that is not there: Kafka is asked for it in vain."""
    count = await log.partitions(topics.events)
    if number >= count:
        raise NotMended(f"{topics.events} has the partitions 0 to {count - 1}, and no {number}")


def _undisturbed(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Let `work` begin again from its start if an owner came in between. Raises as it does."""

    @wraps(work)
    async def tries(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(TRIES - 1):
            try:
                return await work(*args, **kwargs)
            except LogUnavailable as error:
                if type(error) is not LogUnavailable:  # It says what is wrong with the log.
                    raise
            except Fenced:
                pass
            await asyncio.sleep(PAUSE_S)
        return await work(*args, **kwargs)

    return tries


@_undisturbed
async def quarantine(
    log: Log,
    topics: Topics,
    number: int,
    offsets: Sequence[int],
    by: By,
    *,
    among: frozenset[int] = frozenset(),
) -> Sequence[RecordQuarantined]:
    """Let the records at `offsets` of journal partition `number` be passed over from now on.

    And those at `among` that the journal cannot be folded with: there facts may stand between them.

    Raises `NotMended` if one of them is a fact, or not there, or if the journal is not whole
    without them; `LogUnavailable`.
    """
    await _refuse_missing(log, topics, number)
    partition = Partition(topics.events, number)
    found, passed = await fold_without(log, partition, among | set(offsets))
    if not passed and not offsets:
        raise NotMended(f"{partition.topic} partition {number} is whole with all that stands there")
    for offset in sorted(set(offsets) - passed.keys()):
        await _refuse_taken(log, partition, offset)
    for record, seq in passed.values():
        await _refuse_facts(log, record, seq)
    named = [
        RecordQuarantined(offset=offset, sha256=digest_of(passed[offset][0]), reason=by.reason)
        for offset in sorted(passed)
    ]
    decisions = [
        core.about_partition(found.ledger, fact, at=found.ledger.now, actor=by.actor)
        for fact in named
    ]
    await _commit(log, topics, found, decisions)
    return named


async def _refuse_taken(log: Log, partition: Partition, offset: int) -> None:
    """Raise `NotMended` of a record that needs no passing over."""
    at = f"offset {offset} of {partition.topic} partition {partition.number}"
    end = (await log.ends([partition]))[partition]
    async with aclosing(read_until(log, partition, offset, min(end, offset + 1))) as batches:
        async for records in batches:
            for record in records:
                raise NotMended(
                    f"{at} is {_what(record)}, and the journal is whole with it: it stays. A "
                    "record that was quarantined before needs nothing more"
                )
    raise NotMended(f"{at} has no record: name the offset that the scheduler's log names")


async def _refuse_facts(log: Log, record: Record, seq: int) -> None:
    """Raise `NotMended` if `record` may be what was decided once, at whatever place."""
    at = f"offset {record.offset} of {record.topic} partition {record.partition}"
    if is_fact(record, seq):
        raise NotMended(
            f"{at} is {_what(record)}: a scheduler wrote it, and seq {seq} is due there. To pass "
            "it over would hide what was decided: run the version that wrote it, or bring the "
            "broker's data back from a backup"
        )
    try:
        meta = decode_event(record.value).meta
    except Undecodable:
        return
    if is_in_place(meta, record.partition) and not await _is_copy(log, record, meta.seq):
        raise NotMended(
            f"{at} is {_what(record)}, and another fact with that seq stands before it: both were "
            "decided. Keep what `teo fsck -o json` says and bring the broker's data back"
        )


def _what(record: Record) -> str:
    try:
        message = decode_event(record.value)
    except Undecodable as error:
        return f"a record that cannot be read here ({error})"
    return f"{type(message.body).__name__} with seq {message.meta.seq}"


async def _is_copy(log: Log, record: Record, seq: int) -> bool:
    """Return True if the very same fact stands before `record`."""
    partition = Partition(record.topic, record.partition)
    begin = (await log.begins([partition]))[partition]
    async with aclosing(read_until(log, partition, begin, record.offset)) as batches:
        async for records in batches:
            for each in records:
                if each.value == record.value:
                    return decode_event(each.value).meta.seq == seq
    return False


@_undisturbed
async def accept_inputs(log: Log, topics: Topics, number: int, by: By) -> Sequence[InputsReset]:
    """Go on from where the inputs of a partition end: those that were lost are lost for good.

    Returns what was put down; nothing if the inputs are those that the journal knows.
    """
    await _refuse_missing(log, topics, number)
    found = await resume(log, topics, number)
    inputs = await look_at_inputs(log, topics, found.ledger, is_short_accepted=True)
    told = replace(
        inputs,
        resets=tuple(
            each._replace(
                fact=replace(each.fact, reason=f"{each.fact.reason}; accepted: {by.reason}")
            )
            for each in inputs.resets
        ),
    )
    decisions = told.decisions(found.ledger, at=found.ledger.now, actor=by.actor)
    if decisions:
        await _commit(log, topics, found, decisions)
    return [each.fact for each in told.resets]


async def refuse_whole(log: Log, topics: Topics) -> None:
    """Raise `NotMended` if the journal has facts, and nothing says that it lost any.

    Facts of partitions that were begun anew before do not count: the others may still have to be.
    Raises `JournalBroken`, `LogUnavailable`.
    """
    has_facts = False
    for number in range(await log.partitions(topics.events)):
        try:
            found = await resume(log, topics, number)
            told = await facts_told(log, topics, number)
            await refuse_if_behind(log, topics, found.ledger, seq=told)
        except JournalBehind:
            return
        has_facts |= bool(found.ledger.seq) and not await _was_begun_anew(log, topics, number)
    if has_facts:
        raise NotMended(
            f"nothing says that {topics.events} lost facts: there is nothing to begin anew, and "
            "schedulers go on by themselves; `/readyz` of the API says what else stands still"
        )


async def _was_begun_anew(log: Log, topics: Topics, number: int) -> bool:
    """Return True if the first fact of a partition says that others were before it."""
    partition = Partition(topics.events, number)
    begin, end = (
        (await log.begins([partition]))[partition],
        (await log.ends([partition]))[partition],
    )
    async with aclosing(read_until(log, partition, begin, end)) as batches:
        async for records in batches:
            for each in records:
                return isinstance(decode_event(each.value).body, InputsReset)
    return False


@_undisturbed
async def begin_anew(
    log: Log,
    topics: Topics,
    number: int,
    carried: Mapping[str, Sequence[Bench]],
    by: By,
    now: datetime,
) -> Sequence[InputsReset]:
    """Begin the journal of a partition, which must be empty, after one that is lost.

    Inputs that are there are not decided: they may have been. Benches that are known from
    `carried`, by pool, keep their fences and are out of placement until an operator has looked at
    them.
    """
    partition = Partition(topics.events, number)
    found, _ = await fold_without(log, partition, frozenset())
    if found.ledger.seq:
        raise NotMended(
            f"{partition.topic} partition {number} has {found.ledger.seq} facts: a journal "
            "that has any is not begun anew. Bring the broker's data back from a backup"
        )
    at = max(now, await newest_told(log, topics) + MOMENT)
    decisions, resets = await _beginning(log, topics, found.ledger, by, at)
    for pool, known in carried.items():
        decisions += core.carried_over(found.ledger, pool, known, at=at, actor=by.actor)
    await _commit(log, topics, found, decisions)
    return resets


async def _beginning(
    log: Log, topics: Topics, ledger: Ledger, by: By, at: datetime
) -> tuple[list[Decision], list[InputsReset]]:
    inputs = [Partition(topic, ledger.partition) for topic in topics.inputs]
    identities, ends = await log.identify(bound_topics(topics)), await log.ends(inputs)
    resets = [
        InputsReset(
            topic=each.topic,
            topic_id=identities[each.topic].id,
            next_offset=ends[each],
            was_offset=0,
            reason=f"the journal was lost and is begun anew: what came before is not decided, as "
            f"it may have been: {by.reason}",
        )
        for each in inputs
    ]
    bound = TopicsBound(
        topics={name: each.id for name, each in identities.items() if each.id}, reason=by.reason
    )
    told: list[Event] = [*resets, bound]
    return [core.about_partition(ledger, fact, at=at, actor=by.actor) for fact in told], resets
