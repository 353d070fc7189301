"""Snapshots in the simulation: taken often, damaged by the seed, and judged."""

import asyncio
import random
from dataclasses import replace

from events.codec import decode, encode
from events.errors import Undecodable
from events.log import Partition, Record
from events.message import EventMessage
from events.snapshots import Snapshot
from processors.audit.snapshots import Stock, stock_of
from processors.runtime.recovery import recover, resume
from processors.runtime.snapshot import fingerprint
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger
from tests.sim.checkers import Violated
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog
from tests.sim.world import TOPICS, World

COMPARE_TRIES = 60
DAMAGE = ("bytes", "cut", "no_message", "format", "offset", "lost", "compacted")


async def damage_snapshots(world: World, *, strikes: int) -> None:
    """Damage the newest snapshots, now and then; a part of the seeds leaves them alone."""
    dice = random.Random(f"damage/{world.seed}")
    for _ in range(strikes if dice.random() < 0.7 else 0):
        await asyncio.sleep(dice.uniform(1.0, 10.0))
        number = dice.randrange(world.cluster.partitions)
        kind = dice.choice(DAMAGE)
        if damage(world.cluster, number, kind, dice):
            world.count(f"snapshot_{kind}")


def damage(cluster: MemoryCluster, number: int, kind: str, dice: random.Random) -> bool:
    """Damage one of the newest snapshot records of a partition; False if there is none."""
    entries = cluster.stored[Partition(TOPICS.snapshots, number)]
    places = [place for place, record in enumerate(entries) if record is not None]
    if not places:
        return False
    if kind == "compacted":
        newest = {record.key: place for place, record in enumerate(entries) if record is not None}
        for place in set(places) - set(newest.values()):
            entries[place] = None
        return True
    place = dice.choice(places[-3:])
    record = entries[place]
    assert record is not None
    try:
        value = _damaged(record, kind, dice)
    except Undecodable:
        return False  # It is ruined already.
    entries[place] = None if kind == "lost" else replace(record, value=value)
    return True


def _damaged(record: Record, kind: str, dice: random.Random) -> bytes:
    value = record.value or b""
    if kind == "no_message":
        return b"\x00\xff\xff\xff\xff too new"
    if kind == "cut":
        return value[: dice.randrange(len(value))]
    snapshot = decode(value)
    assert isinstance(snapshot, Snapshot)
    changed = {
        "lost": lambda: snapshot,
        "bytes": lambda: replace(snapshot, state=_flipped(snapshot.state, dice)),
        "format": lambda: replace(snapshot, format="999-of-a-later-version"),
        "offset": lambda: replace(snapshot, journal_offset=snapshot.journal_offset + 10_000),
    }
    return encode(changed[kind]())


def _flipped(state: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(state))
    return state[:place] + bytes([state[place] ^ (1 << dice.randrange(8))]) + state[place + 1 :]


async def judge_snapshots(world: World, log: MemoryLog, number: int) -> None:
    """The state that a snapshot and its tail give is the fold; so is every snapshot kept."""
    for _ in range(COMPARE_TRIES):
        folded = await recover(log, Partition(TOPICS.events, number))
        resumed = await resume(log, TOPICS, number)
        if resumed.ledger.seq == folded.seq:
            break
    world.count("resumed" if resumed.from_seq else "folded from the start")
    for reason in resumed.skipped:
        world.count(f"skipped: {reason}")
    if resumed.ledger != folded or fingerprint(resumed.ledger) != fingerprint(folded):
        raise Violated(f"partition {number}: snapshot {resumed.from_seq} and tail are not the fold")
    stock = await stock_of(log, TOPICS, number)
    check_snapshots(stock, number, world.journal(number))


def check_snapshots(stock: Stock, number: int, journal: list[EventMessage]) -> None:
    """Each snapshot that could be used is the state that its part of the journal gives."""
    by_seq = stock.by_seq()
    ledger = Ledger(number)
    for message in journal:
        fold(ledger, message)
        for stored in by_seq.get(ledger.seq, ()):
            if message.meta.index != message.meta.count - 1:
                raise Violated(f"snapshot {stored.seq} is of half a decision")
            if stored.last_event_id != message.meta.event_id:
                raise Violated(f"snapshot {stored.seq} does not end with {message}")
            if stored.fingerprint != fingerprint(ledger):
                raise Violated(f"snapshot {stored.seq} is not the fold")
    if ahead := [seq for seq in by_seq if not 0 < seq <= len(journal)]:
        raise Violated(f"snapshots {ahead} are ahead of a journal of {len(journal)} events")
