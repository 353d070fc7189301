"""Whether the journal of a partition has all that follows from it: else it lost facts.

Results, tasks and dead letters are written in the transactions of the facts that they follow from.
So one that says more than the journal knows means that the journal lost facts, or that a broker
tells an old end of it. Nobody may decide then: fences would fall, and what ran would run again.

What was told before the first event of the journal is of a journal before this one: somebody began
anew, knowing it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from events.codec import decode, name_of
from events.dlq import DeadLetter
from events.errors import JournalBehind, LogUnavailable, Undecodable
from events.ids import derived_id, event_id, is_of_time
from events.log import Log, Partition, Record
from events.message import Message
from events.reading import RECORDS_MAX, STALLED_S_MAX, WAIT_S
from events.results import ExecutionResult
from events.tasks import RunAttempt
from events.topics import Topics, prefix_flag
from processors.saga.letters import FOUND_BY
from processors.scheduler.state import EPOCH, Ledger

TAIL_OFFSETS = 64
"""Of each partition so much is read: what a journal loses at its end is told at other ends."""
REMEMBERED = timedelta(hours=12)
"""A ledger knows for a day how something ended: so what ended within this time it must know."""
_READ = frozenset({"ExecutionResult", "DeadLetter", "RunAttempt"})


def mends(topic: str) -> str:
    """Return what may be done about a journal, on this topic, that lost facts."""
    return (
        "bring the broker's data back from a backup. To go on without what is lost: `teo journal "
        f"begin-anew --reason TEXT{prefix_flag(topic)}` if the journal is empty, else another "
        "--topic-prefix (with `teo up`, another --data-dir)"
    )


async def refuse_if_behind(log: Log, topics: Topics, ledger: Ledger, *, seq: int = 0) -> None:
    """Raise `JournalBehind` if something was told that `ledger` should know and does not.

    `seq` is how many facts its owners told their group that it has: of an empty journal this is
    all that is known, where nothing ever ran. Raises `LogUnavailable`.
    """
    if seq and not ledger.seq:
        raise JournalBehind(
            f"journal partition {ledger.partition} is empty, but its schedulers told their group "
            f"that it had {seq} facts: it was lost, and another one was made in its place. "
            f"Nothing is decided until it has them: {mends(topics.events)}"
        )
    count = await log.partitions(topics.events)

    def is_its(pool: str) -> bool:
        return log.partition_for(pool.encode(), count) == ledger.partition

    for record in await _tails(log, (topics.results, topics.tasks, topics.dlq)):
        for text in _ahead(ledger, _told(record), is_its):
            raise JournalBehind(
                f"journal partition {ledger.partition} ends before seq {ledger.seq}, but {text} "
                f"({record.topic} partition {record.partition}, offset {record.offset}): the "
                "journal lost facts, or a broker tells an old end of it. Nothing is decided until "
                f"it has them: {mends(topics.events)}"
            )


async def newest_told(log: Log, topics: Topics) -> datetime:
    """Return the newest time that a journal told at the ends of its topics; the epoch if none."""
    newest = EPOCH
    for record in await _tails(log, (topics.results, topics.tasks, topics.dlq)):
        match _told(record):
            case ExecutionResult() as result:
                newest = max(newest, result.finished_at)
            case DeadLetter() as letter:
                newest = max(newest, letter.found_at)
            case Message(body=RunAttempt()) as task:
                newest = max(newest, task.meta.issued_at)
    return newest


async def _tails(log: Log, names: Sequence[str]) -> list[Record]:
    """Return the last records of every partition of topics; of a topic that is missing, none."""
    there = await log.identify(names)
    every = [
        Partition(name, number)
        for name in names
        if name in there
        for number in range(await log.partitions(name))
    ]
    begins, ends = await log.begins(every), await log.ends(every)
    starts = {each: max(begins[each], ends[each] - TAIL_OFFSETS) for each in every}
    starts = {each: start for each, start in starts.items() if start < ends[each]}
    return await _read(log, starts, ends) if starts else []


async def _read(
    log: Log, starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> list[Record]:
    found: list[Record] = []
    idle_s = 0.0
    reader = await log.open_reader(starts)
    try:
        left = set(starts)
        while left:
            records = await reader.poll(records_max=RECORDS_MAX, wait_s=WAIT_S)
            found += records
            idle_s = 0.0 if records else idle_s + WAIT_S
            if idle_s > STALLED_S_MAX:
                raise LogUnavailable(f"the ends of {sorted(left)} cannot be read")
            left = {each for each in left if await reader.position(each) < ends[each]}
    finally:
        await reader.close()
    return found


def _told(record: Record) -> object:
    """Return what a record says; None if that is of no use here, or if no scheduler wrote it."""
    try:
        told = decode(record.value) if name_of(record.value) in _READ else None
        return told if _is_ours(told) else None
    except Undecodable:
        return None


def _is_ours(told: object) -> bool:
    """Return True if `told` has the id that a scheduler gives to it.

    Else anybody who may write to one of these topics could stop every partition.
    """
    match told:
        case ExecutionResult() as result:
            partition, seq = result.journal_partition, result.journal_seq
            return result.result_id == event_id(result.finished_at, partition, seq)
        case DeadLetter(kind="execution") as letter:
            command = decode(letter.value)
            due = derived_id(letter.found_at, f"replay-command/{letter.execution_id}")
            return isinstance(command, Message) and command.meta.command_id == due
        case Message(body=RunAttempt(), meta=meta):
            return is_of_time(meta.task_id, meta.issued_at)
    return False


def _ahead(ledger: Ledger, told: object, is_its: Callable[[str], bool]) -> Iterator[str]:
    """Yield what `told` says that `ledger` should know and does not."""
    match told:
        case ExecutionResult() if told.journal_partition == ledger.partition:
            end = _End(told.execution_id, told.pool, told.journal_seq, told.finished_at)
            yield from _end(ledger, "result", end)
        case DeadLetter(kind="execution") if told.found_by == FOUND_BY and is_its(told.pool):
            end = _End(told.execution_id or "", told.pool, told.source_offset, told.found_at)
            yield from _end(ledger, "dead letter", end)
        case Message(body=RunAttempt() as asked) if is_its(told.meta.pool):
            yield from _fence(ledger, asked, told.meta.pool, told.meta.issued_at)


class _End(NamedTuple):
    """The end of an execution, as it was told."""

    execution_id: str
    pool: str
    seq: int
    at: datetime


def _end(ledger: Ledger, what: str, end: _End) -> Iterator[str]:
    name, pool = end.execution_id, ledger.pools.get(end.pool)
    if end.at < ledger.began:
        return
    if end.seq >= ledger.seq:
        yield f"the {what} of execution {name} follows from its seq {end.seq}"
    elif end.at > ledger.now - REMEMBERED and (pool is None or name not in pool.ended):
        yield f"the {what} of execution {name} follows from seq {end.seq}, where another fact is"


def _fence(ledger: Ledger, asked: RunAttempt, pool: str, at: datetime) -> Iterator[str]:
    if at < ledger.began:
        return
    known = ledger.pools.get(pool)
    bench = None if known is None else known.benches.get(asked.bench.name)
    fence = 0 if bench is None else bench.fence
    if asked.fence > fence:
        yield (
            f"attempt {asked.attempt} of execution {asked.execution_id} was ordered with fence "
            f"{asked.fence} of bench {asked.bench.name}, whose fence is {fence} here"
        )
