"""With one protection off, the checkers must object: a check that cannot fail is worth nothing.

Each control takes one protection out of the real code and runs seeds until a checker objects. The
objection has to be the one that protection is there for.
"""

import asyncio
import contextlib
import itertools
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events.commands import Command, ExtendReservation, RequestReservation
from events.facts import ExecutionAssigned
from events.log import Outgoing, Partition, Writer
from events.reports import AttemptEnded
from processors.runtime import footing, owner, recovery
from processors.runtime.inputs import Inputs
from processors.scheduler import core, reports
from processors.scheduler.decision import Tick
from processors.scheduler.state import Ledger
from tests.sim import test_simulation
from tests.sim.calm import peace
from tests.sim.checkers import Violated, check_journal
from tests.sim.in_time import judge_in_time
from tests.sim.loop import run
from tests.sim.memory_cluster import Faults
from tests.sim.memory_log import MemoryWriter
from tests.sim.nemesis import SCHEDULERS, WORKERS
from tests.sim.test_simulation import live
from tests.sim.world import World

SEEDS_MAX = 60
PAUSES = 6
ASKS = 25
BUSY_WAITS_MAX = 100
NO_DEADLINE = {"deadline_s": 1e5, "scheduler_deadline_s": 1e6}
"""A worker that believes in itself whatever the log says."""
Change = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_simulation, "SETTLE_S", 60.0)


async def zombies(world: World, *, are_workers: bool) -> None:
    """Stop one process after the other for longer than anybody waits for it.

    A worker is stopped just when a long test of its begins: that is when harm is near.
    """
    dice = random.Random(f"zombies/{world.seed}")
    for _ in range(PAUSES):
        await asyncio.sleep(dice.uniform(0.2, 1.0))
        name = await busy_worker(world) if are_workers else dice.choice(SCHEDULERS)
        world.logs[name].pause(16.0)
        await asyncio.sleep(14.0)


async def busy_worker(world: World) -> str:
    """Return the worker whose test has begun on a bench of long tests; any if none does."""
    for _ in range(BUSY_WAITS_MAX):
        driving = sorted(who for place, who in world.hardware.driven_by.items() if "b2" in place)
        if driving:
            execution_id = driving[0].partition("/")[0]
            for number in range(world.cluster.partitions):
                for message in reversed(world.journal(number)):
                    body = message.body
                    if isinstance(body, ExecutionAssigned) and body.execution_id == execution_id:
                        return body.worker
        await asyncio.sleep(0.1)
    return min(WORKERS)


def nothing(_: pytest.MonkeyPatch) -> None:
    """Change no code: the world alone is different."""


def objections(monkeypatch: pytest.MonkeyPatch, change: Change, **world: Any) -> Iterator[str]:
    """Yield what the checkers say of each seed; nothing for a seed that shows no harm."""
    change(monkeypatch)
    are_workers = "worker_changes" in world
    monkeypatch.setattr(test_simulation, "ASKS", ASKS)
    monkeypatch.setattr(test_simulation, "double_lives", peace)
    monkeypatch.setattr(
        test_simulation, "nemesis", lambda w, **_: zombies(w, are_workers=are_workers)
    )
    for seed in range(SEEDS_MAX):
        worlds: list[World] = []

        def made(*given: Any, worlds: list[World] = worlds, **more: Any) -> World:
            worlds.append(World(*given, **more))
            worlds[0].cluster.is_fencing = world.get("is_fencing", True)
            worlds[0].worker_changes = world.get("worker_changes", {})
            return worlds[0]

        monkeypatch.setattr(test_simulation, "World", made)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception):
            run(live(seed, Path(folder)))
        try:
            worlds[0].hardware.judge()
            for number in range(worlds[0].cluster.partitions):
                check_journal(worlds[0].journal(number))
                judge_in_time(worlds[0], number)
        except Violated as violated:
            yield str(violated)


def expect(found: Iterator[str], *rules: str) -> None:
    """Take objections until one names a rule of `rules`."""
    seen = []
    for said in itertools.islice(found, SEEDS_MAX):
        if any(rule in said for rule in rules):
            return
        seen.append(said[:100])
    pytest.fail(f"no checker objects with {rules}; they said {seen}")


def unexpecting(patch: pytest.MonkeyPatch) -> None:
    """Let writers take whatever place their records get."""
    patch.setattr(MemoryWriter, "expect", lambda *_: None)


def test_without_fencing_two_schedulers_break_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = objections(monkeypatch, unexpecting, is_fencing=False)
    expect(found, "was due", "decisions are whole")


def test_with_an_old_end_for_the_end_of_the_journal_facts_are_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that was stopped, and does not know yet that it leads no more, tells its old end."""
    expect(objections(monkeypatch, unexpecting), "was due", "decisions are whole")


def test_with_time_judged_before_what_is_unread_an_extension_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(patch: pytest.MonkeyPatch) -> None:
        async def at_once(self: owner.Owner, *_: Any) -> Tick:
            return Tick(now=self.times.now(), monotonic_s=self._clock.monotonic_s())

        def lease(_: World, _mine: random.Random, name: str, _other: str) -> Command:
            """Ask for a bench and extend the lease, in turns."""
            number, turn = name.split("-")
            if int(turn) % 2:
                before = f"r{number}-{int(turn) - 1}"
                return ExtendReservation(reservation_id=before, duration_s=5.0)
            return RequestReservation(
                reservation_id=f"r{name}", selectors=("",), duration_s=5.0, priority=0
            )

        patch.setattr(owner.Owner, "_certain_tick", at_once)
        patch.setattr(owner, "TICK_S", 0.01)  # A tick between any two polls.
        slow = Faults(latency_s=0.3, reorder=0.5)
        patch.setattr(test_simulation, "faults_of", lambda _: slow)
        patch.setattr(World, "_command", lease)

    expect(objections(monkeypatch, change), "in time and refused")


def test_without_self_fencing_two_tests_drive_a_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    found = objections(monkeypatch, nothing, worker_changes=NO_DEADLINE)
    expect(found, "drives lab-")


def test_with_events_and_positions_apart_commands_are_decided_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The position is kept in a transaction of its own, and nothing else knows a repeat."""

    def change(patch: pytest.MonkeyPatch) -> None:
        handle, commit, find = core.handle, owner.Owner._commit, footing.Footing.find
        kept: dict[int, dict[str, int]] = {}

        def forgetful(ledger: Ledger, given: Any) -> Any:
            ledger.known.clear()
            return handle(ledger, given)

        async def starts(self: footing.Footing, ledger: Ledger) -> Inputs:
            found = await find(self, ledger)
            own = kept.get(ledger.partition, {})
            return replace(
                found, starts={each: own.get(each.topic, -1) + 1 for each in found.starts}
            )

        async def commit_apart(self: owner.Owner, *given: Any) -> None:
            await commit(self, *given)
            assert self.ledger is not None
            await self._log.ends([Partition(self._topics.events, self._number)])
            kept[self._number] = dict(self.ledger.positions)

        patch.setattr(owner.core, "handle", forgetful)
        patch.setattr(footing.Footing, "find", starts)
        patch.setattr(owner.Owner, "_commit", commit_apart)

    expect(objections(monkeypatch, change), "decided twice")


def test_with_a_decision_in_two_transactions_it_is_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halves:
        """A writer that needs two transactions for what belongs into one."""

        def __init__(self, writer: Writer) -> None:
            self._writer = writer

        async def commit(self, records: Sequence[Outgoing]) -> Any:
            middle = len(records) // 2
            if middle:
                await self._writer.commit(records[:middle])
            return await self._writer.commit(records[middle:])

    def change(patch: pytest.MonkeyPatch) -> None:
        commit = owner.Owner._commit

        async def in_halves(self: owner.Owner, writer: Writer, *given: Any) -> None:
            await commit(self, Halves(writer), *given)  # type: ignore[arg-type]

        patch.setattr(owner.Owner, "_commit", in_halves)
        # A recovery would see the tear and refuse: here it goes on, as a naive one does.
        patch.setattr(recovery.Journal, "check", lambda *_: None)
        patch.setattr(recovery.Journal, "finish", lambda *_: None)

    expect(objections(monkeypatch, change), "decision", "was due")


def test_without_fences_in_reports_a_stale_word_ends_another_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(patch: pytest.MonkeyPatch) -> None:
        def any_attempt(pool: Any, meta: Any, report: Any) -> Any:
            execution = pool.executions.get(report.execution_id)
            is_active = execution is not None and execution.state == "active"
            return execution if is_active else reports.REPEAT

        patch.setattr(reports, "_fenced", any_attempt)
        decide = reports.decide_report

        def of_any_life(pool: Any, report: Any, meta: Any) -> Any:
            if isinstance(report, AttemptEnded):
                return reports._attempt_ended(pool, report, meta)
            return decide(pool, report, meta)

        patch.setattr(core, "decide_report", of_any_life)

    found = objections(monkeypatch, change, worker_changes=NO_DEADLINE)
    expect(found, "a stale word")


def test_without_cleaning_a_bench_is_given_away_dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(patch: pytest.MonkeyPatch) -> None:
        place = core.place

        def at_once(pool: Any, now: Any) -> Any:
            for bench in pool.benches.values():
                if bench.cleaning is not None and bench.is_online and not bench.attempt_of:
                    bench.cleaning, bench.holder = None, ""
                    pool.free.add(bench.spec.name)
            return place(pool, now)

        patch.setattr(core, "place", at_once)

    expect(objections(monkeypatch, change), "not clean", "held by")
