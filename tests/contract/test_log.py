"""What every log keeps, whether in memory or on a broker: one suite, two implementations."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from events.errors import Fenced, LogUnavailable, RecordTooBig, TopicMissing
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Noted, Outgoing, Partition, Position, Reader, Record
from events.topics import INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Topics, specs
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog

PARTITIONS = 2
WAIT_S = 20.0

Scene = Callable[[Log, Topics], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def play(request: pytest.FixtureRequest) -> Play:
    """Return what plays a scene on one of the logs."""
    if request.param == "memory":

        def in_memory(scene: Scene) -> None:
            async def run() -> None:
                topics = Topics("memory")
                cluster = MemoryCluster(topics=topics, partitions=PARTITIONS)
                await scene(MemoryLog(cluster), topics)

            asyncio.run(run())

        return in_memory
    bootstrap: str = request.getfixturevalue("kafka")

    def on_kafka(scene: Scene) -> None:
        async def run() -> None:
            topics = Topics(f"t{uuid.uuid4().hex[:12]}")
            wanted = specs(topics, partitions=PARTITIONS, min_insync=1)
            await ensure_topics(bootstrap, wanted, replication=1)
            async with KafkaLog(bootstrap, client_id="contract") as log:
                await scene(log, topics)

        asyncio.run(run())

    return on_kafka


def text(topic: str, value: str, partition: int = 0) -> Outgoing:
    return Outgoing(topic=topic, key=b"k", value=value.encode(), partition=partition)


async def read(reader: Reader, count: int) -> list[Record]:
    """Return the next `count` records."""
    found: list[Record] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await reader.poll(records_max=count - len(found), wait_s=0.5)
    return found


def values(records: list[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


def test_a_stamp_of_the_log_tells_its_time(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        assert log.time.now() is None
        (at,) = await log.append([text(topics.commands, "c")])
        told = log.time.now()
        assert told is not None
        reader = await log.open_reader({Partition(topics.commands, 0): at.offset})
        (record,) = await read(reader, 1)
        await reader.close()
        assert timedelta(0) <= told - record.timestamp < timedelta(seconds=1)
        await asyncio.sleep(0.3)
        later = log.time.now()
        assert later is not None
        assert later - told >= timedelta(seconds=0.29)

    play(scene)


def test_what_comes_after_an_end_that_was_read_was_appended_after_it(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        place = Partition(topics.commands, 0)
        await log.append([text(topics.commands, str(n)) for n in range(5)])
        reader = await log.open_reader({place: 0})
        clock = asyncio.get_running_loop().time
        opened_s = clock()
        assert reader.read_up_s(place) is None
        await read(reader, 4)
        assert reader.read_up_s(place) is None, "one is not read yet"
        await read(reader, 1)

        async def level() -> float:
            """Poll in vain until the end is known again; return up to when it was read."""
            since_s = clock()
            async with asyncio.timeout(WAIT_S):
                while (up_s := reader.read_up_s(place)) is None or up_s < since_s:
                    assert await reader.poll(records_max=10, wait_s=0.25) == []
            return up_s

        for turn in range(5):
            up_s = await level()
            assert opened_s < up_s <= clock()
            appended_s = clock()
            await log.append([text(topics.commands, f"later-{turn}")])
            # Whatever it is told to be now: it was not read up to after that was appended.
            before = reader.read_up_s(place)
            assert before is not None
            assert before <= appended_s
            await read(reader, 1)
        await reader.close()

    play(scene)


def test_what_is_appended_is_read_in_order_from_any_offset(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        positions = await log.append([text(topics.logs, str(n)) for n in range(5)])
        assert [at.partition for at in positions] == [0] * 5
        assert [at.offset for at in positions] == sorted({at.offset for at in positions})
        reader = await log.open_reader({Partition(topics.logs, 0): positions[2].offset})
        assert values(await read(reader, 3)) == ["2", "3", "4"]
        assert await reader.poll(records_max=1, wait_s=0.1) == []
        await reader.close()

    play(scene)


def test_the_key_chooses_the_partition_unless_one_is_given(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        assert await log.partitions(topics.logs) == PARTITIONS
        for key in (b"lab-a", b"lab-b", b"lab-c"):
            [at] = await log.append([Outgoing(topic=topics.logs, key=key, value=b"")])
            assert at.partition == log.partition_for(key, PARTITIONS)
        [at] = await log.append([text(topics.logs, "", partition=1)])
        assert at.partition == 1

    play(scene)


def test_headers_key_and_empty_values_come_back(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        record = Outgoing(
            topic=topics.logs, key=b"k", value=None, headers={"ce_type": b"X"}, partition=0
        )
        await log.append([record])
        reader = await log.open_reader({Partition(topics.logs, 0): 0})
        [found] = await read(reader, 1)
        assert (found.key, found.value, dict(found.headers)) == (b"k", None, {"ce_type": b"X"})
        assert found.timestamp.tzinfo is not None
        await reader.close()

    play(scene)


def test_a_commit_is_seen_whole_and_its_end_is_reached(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        events = Partition(topics.events, 0)
        writer = await log.open_writer("w")
        first = await writer.commit([text(topics.events, "a"), text(topics.events, "b")])
        second = await writer.commit([text(topics.events, "c"), text(topics.tasks, "t", 1)])
        reader = await log.open_reader({events: 0, Partition(topics.tasks, 1): 0})
        found = await read(reader, 4)
        assert sorted(values(found)) == ["a", "b", "c", "t"]
        stands = {(r.value or b"").decode(): Position(r.partition, r.offset) for r in found}
        assert [*first, *second] == [stands[value] for value in "abct"], "commit says where"
        async with asyncio.timeout(WAIT_S):
            while await reader.position(events) < (await log.ends([events]))[events]:
                assert await reader.poll(records_max=1, wait_s=0.1) == []
        assert (await log.begins([events]))[events] == 0
        await reader.close()
        await writer.close()

    play(scene)


def test_a_newer_writer_fences_the_older_one(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        old = await log.open_writer("w")
        await old.commit([text(topics.events, "old")])
        new = await log.open_writer("w")
        with pytest.raises(Fenced):
            await old.commit([text(topics.events, "zombie")])
        with pytest.raises((Fenced, LogUnavailable)):
            await old.commit([text(topics.events, "zombie again")])
        await new.commit([text(topics.events, "new")])
        reader = await log.open_reader({Partition(topics.events, 0): 0})
        assert values(await read(reader, 2)) == ["old", "new"]
        for each in (reader, old, new):
            await each.close()

    play(scene)


def test_who_does_not_know_all_that_is_there_commits_nothing(play: Play) -> None:
    """As one does who read an old end of the log."""

    async def scene(log: Log, topics: Topics) -> None:
        events = Partition(topics.events, 0)
        writer = await log.open_writer("w")
        writer.expect(events, (await log.ends([events]))[events])
        for value in ("a", "b"):
            await writer.commit([text(topics.events, value), text(topics.events, f"{value}'")])
            await writer.commit([text(topics.tasks, f"elsewhere {value}", 1)])
        old_end = (await log.ends([events]))[events]
        other = await log.open_writer("another")
        await other.commit([text(topics.events, "unseen")])
        with pytest.raises(LogUnavailable):
            await writer.commit([text(topics.events, "doubled"), text(topics.tasks, "t", 1)])
        await writer.close()
        late = await log.open_writer("w")
        late.expect(events, old_end)
        with pytest.raises(LogUnavailable):
            await late.commit([text(topics.events, "doubled")])
        await late.close()
        last = await log.open_writer("w")
        last.expect(events, (await log.ends([events]))[events])
        await last.commit([text(topics.events, "last")])
        reader = await log.open_reader({events: 0})
        assert values(await read(reader, 6)) == ["a", "a'", "b", "b'", "unseen", "last"]
        for each in (reader, last, other):
            await each.close()

    play(scene)


def test_what_a_topic_does_not_take_is_said_and_nothing_of_its_commit_is_seen(play: Play) -> None:
    """As a topic says, and the biggest that is sent at all; both are no lack of an answer."""

    def big(topic: str, size: int) -> Outgoing:
        value = random.Random(0).randbytes(size)  # Nothing compresses it.
        return Outgoing(topic=topic, key=b"k", value=value, partition=0)

    async def scene(log: Log, topics: Topics) -> None:
        for size in (INPUT_BYTES_MAX + 1, 2 * OUTPUT_BYTES_MAX + 1):
            with pytest.raises(RecordTooBig, match=r"commands"):
                await log.append([big(topics.commands, size)])
        await log.append([big(topics.commands, INPUT_BYTES_MAX - 1_000)])
        events, tasks = Partition(topics.events, 0), Partition(topics.tasks, 0)
        for size in (OUTPUT_BYTES_MAX + 1, 2 * OUTPUT_BYTES_MAX + 1):
            writer = await log.open_writer("w")
            refused = [
                text(topics.tasks, "t"),
                text(topics.events, "small"),
                text(topics.tasks, ""),
            ]
            with pytest.raises(RecordTooBig, match=r"events"):
                await writer.commit([*refused, big(topics.events, size)])
            with pytest.raises(LogUnavailable):
                await writer.commit([text(topics.events, "again")])
            await writer.close()
        writer = await log.open_writer("w")
        await writer.commit(
            [big(topics.events, OUTPUT_BYTES_MAX - 1_000), text(topics.tasks, "t2")]
        )
        reader = await log.open_reader({events: 0, tasks: 0})
        found = await read(reader, 2)
        assert {(r.topic, len(r.value or b"")) for r in found} == {
            (topics.events, OUTPUT_BYTES_MAX - 1_000),
            (topics.tasks, 2),
        }
        for each in (reader, writer):
            await each.close()

    play(scene)


def test_a_missing_topic_is_named(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        with pytest.raises(TopicMissing, match="no-such-topic"):
            await log.partitions("no-such-topic")

    play(scene)


def test_members_share_the_partitions_and_inherit_them(play: Play) -> None:
    async def owned(member: Any, wanted: set[frozenset[int]]) -> frozenset[int]:
        async with asyncio.timeout(WAIT_S):
            while (numbers := await member.assigned(wait_s=0.2)) not in wanted:
                pass
        return numbers

    async def scene(log: Log, topics: Topics) -> None:
        inputs = [topics.commands, topics.reports]
        first = await log.join("g", inputs)
        await owned(first, {frozenset({0, 1})})
        second = await log.join("g", inputs)
        halves = {frozenset({0}), frozenset({1})}
        mine, other = await owned(first, halves), await owned(second, halves)
        assert mine != other
        await first.close()
        await owned(second, {frozenset({0, 1})})
        await second.close()

    play(scene)


def test_topics_are_told_apart_by_more_than_their_names(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        names = [topics.commands, topics.events, f"{topics.prefix}.no-such-topic"]
        found = await log.identify(names)
        assert set(found) == {topics.commands, topics.events}
        assert len({each.id for each in found.values()} - {""}) == 2
        assert [each.copies for each in found.values()] == [1, 1]
        assert await log.identify(names) == found, "nothing has changed"

    play(scene)


def test_what_a_member_notes_is_read_by_whoever_asks_and_only_members_note(play: Play) -> None:
    async def scene(log: Log, topics: Topics) -> None:
        inputs = [topics.commands, topics.reports]
        here, there = Partition(topics.commands, 0), Partition(topics.reports, 1)
        assert await log.noted("g", [here, there]) == {}
        member = await log.join("g", inputs)
        async with asyncio.timeout(WAIT_S):
            while not await member.assigned(wait_s=0.2):
                pass
        noted = {here: Noted(7, "all is well: äöü"), there: Noted(0, "")}
        await member.note(noted)
        assert await log.noted("g", [here, there]) == noted
        assert await log.noted("another", [here]) == {}
        await member.note({here: Noted(8, "on")})
        assert (await log.noted("g", [here]))[here] == Noted(8, "on")
        with pytest.raises(LogUnavailable):
            await member.note({Partition(topics.commands, PARTITIONS): Noted(1, "not its own")})
        await member.close()
        assert (await log.noted("g", [here]))[here] == Noted(8, "on"), "it stays as it was"

    play(scene)
