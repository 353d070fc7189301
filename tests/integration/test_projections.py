"""Projections of a journal on a real broker: markers, restarts, rebuilds, aborted transactions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.past import Past
from events.codec import encode
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.kafka.writer import KafkaWriter
from events.log import Outgoing, Partition, Position
from events.message import EventMessage
from events.topics import Topics, specs
from projections.read_model import ReadModel
from projections.rebuild import rebuild, rebuild_live
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store
from tests.unit.processors.scheduler.history import lab, reserve, submit
from tests.unit.projections.journal_log import in_place

pytestmark = pytest.mark.broker

PARTITIONS = 3
WAIT_S = 30.0


def outgoing(topics: Topics, messages: Sequence[EventMessage], partition: int) -> list[Outgoing]:
    return [
        Outgoing(
            topic=topics.events,
            key=b"lab",
            value=encode(in_place(message, partition)),
            partition=partition,
        )
        for message in messages
    ]


@asynccontextmanager
async def projecting(log: KafkaLog, topics: Topics, store: Store) -> AsyncIterator[Projector]:
    projector = Projector(log, topics, store)
    task = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_projection_lives_with_a_real_journal(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(topic_prefix.rstrip("."))
    path = tmp_path / "read.db"
    history = lab("b1", "b2")

    async def scenario() -> None:
        await ensure_topics(
            kafka, specs(topics, partitions=PARTITIONS, min_insync=1), replication=1
        )
        async with KafkaLog(kafka, client_id="test") as log:
            writer = await log.open_writer(f"{topics.prefix}-1")
            commit = seen_by_readers(log, Partition(topics.events, 1), writer)
            try:
                await commit(outgoing(topics, history.events, 1))
                with Store(path) as store:
                    async with projecting(log, topics, store) as projector:
                        await first_life(log, projector, writer_commit=commit)
                await commit(ask("r2"))
                with Store(path) as store:
                    async with projecting(log, topics, store) as projector:
                        assert await projector.caught_up(WAIT_S), "it goes on after a restart"
                        assert store.mark(1).seq == len(history.events)
                        done = await rebuild_live(log, topics, projector)
                        assert done.before == done.after == fingerprint(store.db)
                        await after_swap(log, projector, writer_commit=commit)
                        shown = fingerprint(store.db)
                assert (await rebuild(log, topics, path)).after == shown
            finally:
                await writer.close()

    def ask(name: str) -> list[Outgoing]:
        done = len(history.events)
        history.ask(reserve(name), command_id=f"command-{name}")
        return outgoing(topics, history.events[done:], 1)

    async def first_life(log: KafkaLog, projector: Projector, *, writer_commit: object) -> None:
        assert await projector.caught_up(WAIT_S)
        reads = ReadModel(projector)
        assert (await reads.pools())[0].benches_by_state == {"idle": 2}
        waiting = asyncio.create_task(projector.wait_for_command("command-r1", WAIT_S))
        await writer_commit(ask("r1"))  # type: ignore[operator]
        outcome = await waiting
        assert outcome is not None
        assert (outcome.status, outcome.subject_id, outcome.partition) == ("accepted", "r1", 1)
        reservation = await reads.reservation("r1")
        assert reservation is not None
        assert reservation.status == "granted", "all of a decision shows at once"
        assert (await reads.health()).behind == 0

    async def after_swap(log: KafkaLog, projector: Projector, *, writer_commit: object) -> None:
        done = len(history.events)
        history.ask(submit("e1"))
        await writer_commit(outgoing(topics, history.events[done:], 1))  # type: ignore[operator]
        assert await projector.caught_up(WAIT_S)
        row = await ReadModel(projector).execution("e1")
        assert row is not None
        assert (row.status, row.queue_position) == ("queued", 1)
        end = (await log.ends([Partition(topics.events, 1)]))[Partition(topics.events, 1)]
        assert projector.store.mark(1).offset < end - 1, "the end is a marker, not a record"
        past, offset, given = Past(log, topics.events), 0, 0
        while offset < end:
            block = await past.block(Position(1, offset), end)
            offset, given = block.next_offset, given + len(block.frames)
        await past.close()
        assert given == len(history.events), "the past has each event once, and no marker"

    asyncio.run(scenario())


def seen_by_readers(
    log: KafkaLog, partition: Partition, writer: KafkaWriter
) -> Callable[[list[Outgoing]], Awaitable[None]]:
    """Return a commit that also waits for the broker's marker, which comes after its answer."""

    async def commit(records: list[Outgoing]) -> None:
        before = (await log.ends([partition]))[partition]
        await writer.commit(records)
        end_s = asyncio.get_running_loop().time() + WAIT_S
        while (await log.ends([partition]))[partition] <= before + len(records):
            assert asyncio.get_running_loop().time() < end_s, "the marker never came"
            await asyncio.sleep(0.01)

    return commit
