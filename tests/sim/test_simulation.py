"""The lab under faults, seed by seed; afterwards the log is judged.

`TEO_SIM_SEEDS` sets how many (default 120), `TEO_SIM_FIRST` the first. A seed that failed once
stays in `corpus/seeds.txt` and is always run.
"""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from events import facts
from events.codec import decode, decode_report
from events.codes import CODES
from events.dlq import DeadLetter
from events.log import Partition
from events.message import EventMessage
from processors.audit.findings import Findings
from processors.audit.inputs import Decided, check_inputs
from processors.runtime.recovery import recover
from processors.scheduler import deadlines
from processors.scheduler.evolve import IDEMPOTENCY_WINDOW
from projections.rebuild import fingerprint
from projections.runtime import Projector
from projections.store import Store
from tests.sim.checkers import (
    Violated,
    check_commands,
    check_journal,
    check_letters,
    check_reports,
    check_results,
)
from tests.sim.durations import judge_durations
from tests.sim.in_time import judge_in_time
from tests.sim.loop import run
from tests.sim.lost_inputs import lose_inputs
from tests.sim.memory_cluster import Faults
from tests.sim.memory_log import MemoryLog
from tests.sim.nemesis import SCHEDULERS, WORKERS, clocks, double_lives, faults_of, nemesis
from tests.sim.snapshots import damage_snapshots, judge_snapshots
from tests.sim.world import POOLS, TOPICS, World

SEEDS = int(os.environ.get("TEO_SIM_SEEDS", "120"))
FIRST = int(os.environ.get("TEO_SIM_FIRST", "0"))
BLOCK = 40
CLIENTS = 4
ASKS = 6
STRIKES = 5
SETTLE_S = 900.0
COMPARE_TRIES = 60
CORPUS = Path(__file__).parent / "corpus" / "seeds.txt"


def live_in_order(world: World) -> list[str]:
    """Return what is not at its end yet."""
    open_: dict[str, None] = {}
    for number in range(world.cluster.partitions):
        for message in world.journal(number):
            body = message.body
            match body:
                case facts.ExecutionSubmitted():
                    open_[body.execution_id] = None
                case facts.ExecutionFinished():
                    open_.pop(body.execution_id)
                case facts.ReservationRequested():
                    open_[body.reservation_id] = None
                case (
                    facts.ReservationReleased()
                    | facts.ReservationExpired()
                    | facts.ReservationCancelled()
                    | facts.ReservationRevoked()
                ):
                    open_.pop(body.reservation_id)
    return list(open_)


def undecided(world: World) -> list[str]:
    """Return the acknowledged commands that have no outcome yet."""
    decided = {
        message.meta.causation_id
        for number in range(world.cluster.partitions)
        for message in world.journal(number)
    }
    return [name for name in world.asked if name not in decided and name not in world.lost]


async def live(seed: int, folder: Path) -> World:
    """Let one seed happen, then heal everything and wait until all came to an end."""
    world = World(seed, folder)
    try:
        await _live(world)
    finally:
        await world.stop()
    return world


async def _live(world: World) -> None:
    for name in SCHEDULERS:
        world.start_scheduler(name)
    for name, pool in WORKERS.items():
        world.start_worker(name, pool)
    await world.furnish()
    world.cluster.faults = faults_of(world.seed)
    async with asyncio.TaskGroup() as group:
        group.create_task(nemesis(world, strikes=STRIKES))
        group.create_task(double_lives(world, strikes=STRIKES))
        group.create_task(clocks(world))
        group.create_task(damage_snapshots(world, strikes=STRIKES))
        group.create_task(lose_inputs(world, strikes=STRIKES))
        for number in range(CLIENTS):
            group.create_task(world.client(number, ASKS))
            group.create_task(world.key_for_all_pools(number))
    world.cluster.faults = Faults()
    world.cluster.away_until_s = 0.0
    for pool in POOLS:
        await world.apply_picky_bench(pool, is_right=True)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + SETTLE_S
    while undecided(world) or live_in_order(world):
        if loop.time() > end_s:
            raise Violated(f"never ends: {undecided(world)} {live_in_order(world)}")
        await world.restore_benches()
        await asyncio.sleep(5)
    await judge(world)


async def judge(world: World) -> None:
    """Check every invariant on what the benches saw and on what is on the log."""
    world.hardware.judge()
    events = []
    for number in range(world.cluster.partitions):
        await judge_inputs(world, number)
        journal = world.journal(number)
        check_journal(journal)
        judge_in_time(world, number)
        judge_durations(world, number)
        codes_are_known(journal)
        events += journal
        await live_state_is_the_fold(world, number)
        await judge_snapshots(world, MemoryLog(world.cluster), number)
    check_reports(decode_report(each.value) for each in world.cluster.all_records(TOPICS.reports))
    check_commands(world.journal(number) for number in range(world.cluster.partitions))
    results = [decode(record.value) for record in world.cluster.all_records(TOPICS.results)]
    check_results(events, results)
    letters = [decode(record.value) for record in world.cluster.all_records(TOPICS.dlq)]
    check_letters(events, [each for each in letters if not is_of_a_set_clock(world, each)])
    first = {message.meta.causation_id for message in events if message.meta.index == 0}
    if lost := sorted(world.asked.keys() - world.lost - first):
        raise Violated(f"acknowledged and lost: {lost}")
    prints = [await projected(world), await projected(world)]
    if prints[0] != prints[1]:
        raise Violated("two projections of one log differ")


def is_of_a_set_clock(world: World, letter: DeadLetter) -> bool:
    """Tell a command that was asked before a clock was set forward by a day, and written after."""
    is_late = letter.kind == "record" and letter.error.startswith("TooLate: ")
    return is_late and any(
        each.by_s >= IDEMPOTENCY_WINDOW.total_seconds() for each in world.clock_jumps
    )


def codes_are_known(journal: Sequence[EventMessage]) -> None:
    """Every end of an attempt or an execution has a word of the table, and says whose fault."""
    for message in journal:
        if isinstance(message.body, facts.AttemptFinished | facts.ExecutionFinished):
            if message.body.code not in CODES:
                raise Violated(f"nobody knows the code of {message}")
            if message.body.verdict == "error" and not message.body.fault:
                raise Violated(f"nobody's fault: {message}")


async def judge_inputs(world: World, number: int) -> None:
    """What stands on the topics of inputs is what the journal was decided from, as `fsck` sees.

    Soon: what was lost a moment ago must first be noticed.
    """
    for _ in range(COMPARE_TRIES):
        findings, decided = Findings(), Decided()
        for message in world.journal(number):
            decided.see(message)
        await check_inputs(MemoryLog(world.cluster), TOPICS, number, decided, findings)
        if not findings.kept:
            return
        await asyncio.sleep(1)
    raise Violated(f"partition {number}: {findings.kept}")


async def live_state_is_the_fold(world: World, number: int) -> None:
    """Compare at a moment at which the live state is not ahead of the log."""
    for _ in range(COMPARE_TRIES):
        folded = await recover(MemoryLog(world.cluster), Partition(TOPICS.events, number))
        for name, scheduler in world.schedulers.items():
            owner = scheduler.owners.get(number)
            ledger = None if owner is None or world.logs[name].is_dead else owner.ledger
            if ledger is None or ledger.seq != folded.seq:
                continue
            if ledger != folded:
                raise Violated(f"partition {number}: the fold is not the live state of {name}")
            return
        await asyncio.sleep(1)
    raise Violated(f"partition {number}: nobody has a live state to compare")


async def projected(world: World) -> str:
    """Return the fingerprint of a fresh projection of the log."""
    with Store(None) as store:
        projector = Projector(MemoryLog(world.cluster), TOPICS, store)
        task = asyncio.get_running_loop().create_task(projector.run())
        try:
            assert await projector.caught_up(60.0)
        finally:
            task.cancel()
            await asyncio.wait({task})
        return fingerprint(store.db)


def happen(seed: int) -> World:
    """Run one seed."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        try:
            return run(live(seed, Path(folder)))
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range((SEEDS + BLOCK - 1) // BLOCK))
def test_seeds(block: int) -> None:
    runs = finished = resumed = 0
    seen: Counter[str] = Counter()
    seeds = range(FIRST + block * BLOCK, FIRST + min((block + 1) * BLOCK, SEEDS))
    for seed in seeds:
        world = happen(seed)
        runs += world.hardware.runs
        finished += len(world.cluster.all_records(TOPICS.results))
        resumed += world.counters.get("resumed", 0)
        for number in range(world.cluster.partitions):
            seen.update(kind for each in world.journal(number) for kind in kinds_of(each.body))
    assert runs > len(seeds), "tests were really run"
    assert finished > len(seeds)
    if len(seeds) < BLOCK:
        return  # What follows is rare.
    assert resumed > 0, "snapshots were really used"
    assert seen["life refused"] > 0, "somebody was really turned away"
    assert seen["unknown"] > 0, "something was really forgotten"
    assert seen["suspended"] > 0, "disks were really full"
    assert seen["bench refused"] > 0, "benches were really refused"
    assert seen["reset"] > 0, "inputs were really lost, and that was said"


def kinds_of(body: facts.Event) -> Iterator[str]:
    """Yield what must have happened now and then that a fact tells of."""
    if isinstance(body, facts.InputsReset):
        yield "reset"
    if isinstance(body, facts.WorkerRefused):
        yield "life refused"
    if isinstance(body, facts.WorkerSuspended):
        yield "suspended"
    if isinstance(body, facts.BenchChecksRecorded) and any(each.code for each in body.checks):
        yield "bench refused"
    if getattr(body, "code", "") == deadlines.ATTEMPT_UNKNOWN:
        yield "unknown"


def test_corpus() -> None:
    for line in CORPUS.read_text().splitlines():
        if line and not line.startswith("#"):
            happen(int(line.split()[0]))


def test_a_seed_happens_the_same_way_twice() -> None:
    first, second = happen(7), happen(7)
    assert first.cluster.stored == second.cluster.stored
