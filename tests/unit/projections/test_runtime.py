"""The projector follows the journal, wakes who waits, and outlives a log that is down."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from events import facts
from events.codec import encode
from events.errors import JournalBroken
from events.log import Position
from events.message import EventMessage
from events.quarantine import Quarantine
from events.topics import Topics
from projections import queries, runtime
from projections.feed import Change, ChangeFeed, FeedOverflow
from projections.read_model import ReadModel
from projections.rebuild import rebuild, rebuild_live
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store
from tests.unit.projections.given import decision, decisions, spec
from tests.unit.projections.journal_log import JournalLog

TOPICS = Topics()
WAIT_S = 10.0
REGISTERED = facts.BenchRegistered(bench=spec("b1"))
ONLINE = facts.BenchOnline(bench="b1")
OFFLINE = facts.BenchOffline(bench="b1", reason="")
UNKNOWN = b"\x00\x00\x0f\x42\x40 an event of a later version"


@asynccontextmanager
async def projecting(log: JournalLog, store: Store) -> AsyncIterator[Projector]:
    projector = Projector(log, TOPICS, store)
    task = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def state(store: Store) -> str:
    row = queries.bench(store.db, "lab", "b1")
    return "" if row is None else row.state


def test_all_partitions_are_applied_up_to_their_ends() -> None:
    async def scenario() -> None:
        log = JournalLog(partitions=3)
        log.write(decisions([REGISTERED], [ONLINE]))
        log.write(decisions([REGISTERED], pool="other"), partition=2)
        with Store(None) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
                assert [row.pool for row in await ReadModel(projector).pools()] == ["lab", "other"]
                health = await projector.health()
                assert (health.is_live, health.behind) == (True, 0)
                position = log.write(decision(OFFLINE, seq=2))
                assert await projector.wait_for(position, WAIT_S)
                assert state(store) == "offline"

    asyncio.run(scenario())


def test_a_wait_for_a_position_ends_in_time() -> None:
    async def scenario() -> None:
        with Store(None) as store:
            async with projecting(JournalLog(), store) as projector:
                assert not await projector.wait_for(Position(0, 0), 0.01)
                assert await projector.wait_for_command("c", 0.01) is None

    asyncio.run(scenario())


def test_who_waits_for_a_command_gets_its_outcome_with_all_its_events_applied() -> None:
    async def scenario() -> None:
        log = JournalLog()
        with Store(None) as store:
            async with projecting(log, store) as projector:
                waits = [
                    asyncio.create_task(projector.wait_for_command("c1", WAIT_S)) for _ in range(3)
                ]
                await asyncio.sleep(0)
                events = decision(REGISTERED, ONLINE, command_id="c1")
                log.write(events[:1])
                assert not await projector.wait_for(Position(0, 0), 0.05), "half a decision shows"
                last = log.write(events[1:])
                for row in await asyncio.gather(*waits):
                    assert row is not None
                    assert (row.status, row.offset) == ("accepted", last.offset)
                assert state(store) == "idle"
                assert await projector.wait_for_command("c1", 0.0) is not None

    asyncio.run(scenario())


def test_a_restart_goes_on_where_the_last_process_stood(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions([REGISTERED], [ONLINE]))
        for more in ((), decision(OFFLINE, seq=2)):
            log.write(more) if more else None
            with Store(tmp_path / "read.db") as store:
                async with projecting(log, store) as projector:
                    assert await projector.caught_up(WAIT_S)
        assert log.polled == [0, 2, 2, 4], "the last record is read again, to know the journal"
        with Store(tmp_path / "read.db") as store:
            assert state(store) == "offline"

    asyncio.run(scenario())


@pytest.mark.parametrize("others", [0, 1, 2, 5])
def test_a_journal_that_lost_what_was_applied_is_said_and_nothing_is_thrown_away(
    tmp_path: Path, others: int
) -> None:
    """It may be an old end that a broker tells, and what is known is all that is left of it."""

    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions([REGISTERED], [ONLINE]))
        with Store(tmp_path / "read.db") as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
        fresh = JournalLog()
        later = decisions(*([REGISTERED] for _ in range(others)), pool="new")
        fresh.write([moved(m) for m in later]) if later else None
        with Store(tmp_path / "read.db") as store:
            async with projecting(fresh, store) as projector:
                await trouble(projector, "teo projections rebuild")
                assert not (await projector.health()).is_live
                assert [row.pool for row in await ReadModel(projector).pools()] == ["lab"]
                fresh.records, fresh.next_offsets = log.records, log.next_offsets  # It heals.
                fresh.changed.set()
                assert await projector.caught_up(WAIT_S)
        with Store(tmp_path / "read.db") as store:
            assert state(store) == "idle"

    asyncio.run(scenario())


def moved(message: EventMessage) -> EventMessage:
    """Return the event as decided at another time: another one at the same place."""
    at = message.meta.occurred_at + timedelta(hours=1)
    return replace(message, meta=replace(message.meta, occurred_at=at))


def test_a_log_that_is_down_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "BACKOFF_S_MAX", 0.01)

    async def scenario() -> None:
        log = JournalLog()
        log.write(decision(REGISTERED))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
                log.is_down = True
                log.changed.set()
                assert not await projector.wait_for(Position(0, 99), 0.05)
                assert projector._tail is None, "it noticed"
                assert "the log is down" in (await projector.health()).detail
                log.is_down = False
                position = log.write(decision(ONLINE, seq=1))
                assert await projector.wait_for(position, WAIT_S)
                assert (await projector.health()).is_live

    asyncio.run(scenario())


def test_a_hole_stops_the_projector_after_what_stands_before_it() -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write([*decision(REGISTERED), *decision(ONLINE, seq=1), *decision(OFFLINE, seq=3)])
        with Store(None) as store:
            async with projecting(log, store) as projector:
                await trouble(projector, "seq 3 where 2 was due")
                assert state(store) == "idle"
                assert not (await projector.health()).is_live

    asyncio.run(scenario())


async def trouble(projector: Projector, text: str) -> None:
    """Wait until the projector says so."""
    async with asyncio.timeout(WAIT_S):
        while text not in (await projector.health()).detail:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def foreign(*, seq: int, event_id: str = "") -> EventMessage:
    """An event that no scheduler wrote at this place."""
    [made] = decision(OFFLINE, seq=seq)
    return replace(made, meta=replace(made.meta, event_id=event_id or made.meta.event_id))


@pytest.mark.parametrize(
    "stranger",
    [foreign(seq=99, event_id="forged"), foreign(seq=1, event_id="forged"), foreign(seq=0)],
)
def test_an_event_that_no_scheduler_wrote_is_passed_over_once_a_fact_names_it(
    stranger: EventMessage,
) -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write(decision(REGISTERED))
        offset = log.write_raw(encode(stranger))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                await trouble(projector, f"offset {offset}")
                digest = sha256(encode(stranger)).hexdigest()
                fact = facts.RecordQuarantined(offset=offset, sha256=digest, reason="junk")
                log.write(decision(fact, seq=1))
                position = log.write(decision(ONLINE, seq=2))
                assert await projector.wait_for(position, WAIT_S)
                assert state(store) == "idle"
                assert (await projector.health()).is_live

    asyncio.run(scenario())


def test_of_many_records_that_are_passed_over_one_reads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of the journal may be long by now."""
    reads: list[int] = []
    read = Quarantine._read

    async def counted(self: Quarantine, start: int) -> set[tuple[int, str]]:
        reads.append(start)
        return await read(self, start)

    monkeypatch.setattr(Quarantine, "_read", counted)

    async def scenario() -> None:
        log = JournalLog()
        log.write(decision(REGISTERED))
        stranger = replace(decision(ONLINE)[0], meta=replace(decision(ONLINE)[0].meta, seq=900))
        offsets = [log.write_raw(encode(stranger)) for _ in range(20)]
        digest = sha256(encode(stranger)).hexdigest()
        for seq, offset in enumerate(offsets, start=1):
            fact = facts.RecordQuarantined(offset=offset, sha256=digest, reason="junk")
            log.write(decision(fact, seq=seq))
        position = log.write(decision(ONLINE, seq=21))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                assert await projector.wait_for(position, WAIT_S)
        assert len(reads) == 1

    asyncio.run(scenario())


def test_no_fact_is_passed_over_whatever_is_written_later() -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write([*decision(REGISTERED), *decision(ONLINE, seq=1)])
        [lost] = decision(OFFLINE, seq=3)
        offset = log.write([lost]).offset
        digest = sha256(encode(lost)).hexdigest()
        log.write(decision(facts.RecordQuarantined(offset=offset, sha256=digest, reason=""), seq=2))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                await trouble(projector, "seq 3 where 2 was due")
                await asyncio.sleep(0.3)
                assert state(store) == "idle"

    asyncio.run(scenario())


def test_events_of_a_later_version_are_counted_and_skipped() -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write(decision(REGISTERED))
        log.write_raw(UNKNOWN)
        position = log.write(decision(ONLINE, seq=2))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                assert await projector.wait_for(position, WAIT_S)
                assert state(store) == "idle"
                assert "1 records" in (await projector.health()).detail

    asyncio.run(scenario())


def test_the_feed_tells_every_listener_what_was_applied() -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write(decision(REGISTERED))
        with Store(None) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
                with projector.feed.subscribe() as one, projector.feed.subscribe() as two:
                    position = log.write(decision(ONLINE, OFFLINE, seq=1))
                    for listener in (one, two):
                        changes = await listener.next(wait_s=WAIT_S)
                        assert [c.message.body for c in changes] == [ONLINE, OFFLINE]
                        assert changes[-1].position == position
                    assert await one.next(wait_s=0.01) == []
                assert projector.feed.listeners == 0

    asyncio.run(scenario())


def test_a_slow_listener_is_told_and_the_others_go_on() -> None:
    async def scenario() -> None:
        feed = ChangeFeed(changes_max=3)
        messages = decisions(*([ONLINE] for _ in range(6)))
        changes = [Change(position=Position(0, at), message=m) for at, m in enumerate(messages)]
        with feed.subscribe() as slow, feed.subscribe() as quick:
            feed.publish(changes[:3])
            assert len(await quick.next(wait_s=0)) == 3
            feed.publish(changes[3:])
            assert len(await quick.next(wait_s=0)) == 3
            for _ in range(2):
                with pytest.raises(FeedOverflow, match="more than 3 changes"):
                    await slow.next(wait_s=0)

    asyncio.run(scenario())


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def many(count: int) -> Sequence[Sequence[facts.Event]]:
    return [[REGISTERED], *([ONLINE, OFFLINE] for _ in range(count))]


def test_a_rebuild_gives_the_same_rows_and_is_swapped_in(tmp_path: Path) -> None:
    path = tmp_path / "read.db"

    async def scenario() -> None:
        log = JournalLog(partitions=2)
        log.write(decisions(*many(700)))
        with Store(path) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
            store.db.execute("UPDATE benches SET adapter = 'spoilt'")
            spoilt = fingerprint(store.db)
        done = await rebuild(log, TOPICS, path)
        assert (done.events, done.before) == (1401, spoilt)
        again = await rebuild(log, TOPICS, path)
        assert again.before == again.after == done.after != spoilt
        with Store(path) as store:
            assert fingerprint(store.db) == done.after
            assert store.mark(0).seq == 1401
        assert files(tmp_path) == ["read.db", "read.db.lock"]

    asyncio.run(scenario())


def test_a_rebuild_beside_a_live_projector_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions(*many(300)))
        with Store(tmp_path / "read.db") as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
                with projector.feed.subscribe() as listener:
                    work = asyncio.create_task(rebuild_live(log, TOPICS, projector))
                    seq = 601
                    while not work.done():
                        log.write(decision(ONLINE, OFFLINE, seq=seq))
                        seq += 2
                        await asyncio.sleep(0)
                    done = await work
                    assert done.before == done.after
                    position = log.write(decision(ONLINE, seq=seq))
                    assert await projector.wait_for(position, WAIT_S)
                    changes = await listener.next(wait_s=WAIT_S)
                    assert [c.message.meta.seq for c in changes] == list(range(601, seq + 1))
                assert state(store) == "idle"
                assert store.mark(0).seq == seq + 1
        await rebuild(log, TOPICS, tmp_path / "read.db")

    asyncio.run(scenario())


def test_a_rebuild_that_fails_leaves_the_old_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "read.db"

    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions([REGISTERED], [ONLINE]))
        await rebuild(log, TOPICS, path)
        with Store(path) as store:
            before = fingerprint(store.db)
        log.write(decision(OFFLINE, seq=9))
        with pytest.raises(JournalBroken):
            await rebuild(log, TOPICS, path)
        with Store(path) as store:
            assert fingerprint(store.db) == before
        assert files(tmp_path) == ["read.db", "read.db.lock"]

    asyncio.run(scenario())


LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


def test_another_process_that_locks_the_database_stops_nothing(tmp_path: Path) -> None:
    """Nothing waits on the loop, reads go on, and what was not applied meanwhile is applied."""
    path = tmp_path / "read.db"

    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions([REGISTERED], [ONLINE]))
        longest_s, stop = 0.0, False

        async def watch_the_loop() -> None:
            nonlocal longest_s
            clock = asyncio.get_running_loop().time
            while not stop:
                before_s = clock()
                await asyncio.sleep(0.01)
                longest_s = max(longest_s, clock() - before_s)

        with Store(path) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
                other = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-c", LOCKER, str(path)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                assert other.stdin is not None
                assert other.stdout is not None
                assert await other.stdout.readline() == b"locked\n"
                watching = asyncio.create_task(watch_the_loop())
                position = log.write(decision(OFFLINE, seq=2))
                assert not await projector.wait_for(position, 1.0)
                health = await projector.health()
                assert not health.is_live
                assert "locked by another process" in health.detail
                assert re.search(r", for [12] s now$", health.detail)
                assert state(store) == "idle", "reads go on"
                other.stdin.write(b"\n")
                assert await projector.wait_for(position, WAIT_S)
                assert state(store) == "offline"
                assert (await projector.health()).is_live
                stop = True
                await asyncio.gather(watching, other.wait())
        assert longest_s < 4.0, "the loop waited for the lock"

    asyncio.run(scenario())
