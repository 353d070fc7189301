"""What a lost journal told of benches elsewhere: in its newest snapshot and in its tasks."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from events.codec import decode
from events.errors import Undecodable
from events.ids import is_of_time
from events.log import Log, Partition, Record
from events.message import Message
from events.reading import read_until
from events.shared import TaskMeta
from events.tasks import RunAttempt, TearDownBench
from events.topics import Topics
from processors.runtime.snapshot import SnapshotUnusable, assemble
from processors.runtime.snapshot_reader import Search, has_snapshots
from processors.scheduler.state import Bench

Told = dict[tuple[str, str], Bench]
"""By pool and name; of each bench its newest form and its highest fence."""


async def benches_told(log: Log, topics: Topics, number: int) -> Mapping[str, Sequence[Bench]]:
    """Return the benches of journal partition `number` that can still be known, by pool.

    Raises `LogUnavailable`.
    """
    told = await _of_snapshot(log, topics, number)
    count = await log.partitions(topics.events)
    for each in range(await log.partitions(topics.tasks)):
        partition = Partition(topics.tasks, each)
        begin = (await log.begins([partition]))[partition]
        end = (await log.ends([partition]))[partition]
        async with aclosing(read_until(log, partition, begin, end)) as batches:
            async for records in batches:
                for record in records:
                    _note(told, record)
    found: dict[str, list[Bench]] = {}
    for (pool, _), bench in sorted(told.items()):
        if log.partition_for(pool.encode(), count) == number:
            found.setdefault(pool, []).append(bench)
    return found


async def _of_snapshot(log: Log, topics: Topics, number: int) -> Told:
    if not await has_snapshots(log, topics, number):
        return {}
    search = Search(log, Partition(topics.snapshots, number))
    async with aclosing(search.newest_first()) as candidates:
        async for _, parts in candidates:
            try:
                pools = assemble(parts).ledger.pools
            except SnapshotUnusable:
                continue
            return {
                (pool.name, name): Bench(bench.spec, fence=bench.fence)
                for pool in pools.values()
                for name, bench in pool.benches.items()
            }
    return {}


def _note(told: Told, record: Record) -> None:
    try:
        message = decode(record.value)
    except Undecodable:
        return
    if not isinstance(message, Message) or not isinstance(message.meta, TaskMeta):
        return
    is_ours = is_of_time(message.meta.task_id, message.meta.issued_at)
    if is_ours and isinstance(message.body, RunAttempt | TearDownBench):
        spec, fence = message.body.bench, message.body.fence
        known = told.setdefault((message.meta.pool, spec.name), Bench(spec))
        known.fence = max(known.fence, fence)
