"""Real watchers beside a real scheduler and a real worker; the journal is the judge."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.codec import decode_event
from events.commands import ApplyBenches, RestoreBench, SubmitExecution
from events.facts import AttemptFinished, BenchQuarantined, BenchRestored
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log
from events.message import EventMessage
from events.shared import BenchSpec, HealthPolicy, RunSpec
from events.topics import Topics, specs
from processors.watchers.bench_health.rule import ACTOR
from tests.integration.roles import Process, role, watcher
from tests.on_log import ask, read_all

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(600)]

PARTITIONS = 2
ROLES = ("operator",)
ERRORS_MAX = 2
BENCHES = tuple(("lab-a", f"b{n}") for n in range(3)) + tuple(("lab-b", f"b{n}") for n in range(3))
KILLS = 6
JUDGED_S_MAX = 90.0
RUN = RunSpec(command=("true",), env={}, timeout_s=60.0, junit=(), artifacts=())
SICK = json.dumps({"provision": {"fail": "the relay sticks"}})


@contextmanager
def lab(kafka: str, prefix: str, folder: Path) -> Iterator[None]:
    """A scheduler, and a worker that serves every pool."""
    where = ("--kafka", kafka, "--topic-prefix", prefix)
    kept = ("--state-dir", str(folder / "state"), "--artifacts", str(folder / "artifacts"))
    with (
        role(folder, "scheduler", *where),
        role(folder, "worker", "--id", "w", "--all-pools", "--drain", "1s", *kept, *where),
    ):
        yield


async def apply_benches(log: Log, topics: Topics, config: str = SICK) -> None:
    for pool in sorted({pool for pool, _ in BENCHES}):
        benches = tuple(
            BenchSpec(name=name, labels={"name": name}, adapter="mock", config=config)
            for its_pool, name in BENCHES
            if its_pool == pool
        )
        health = HealthPolicy(errors_max=ERRORS_MAX, window_s=3600.0)
        body = ApplyBenches(benches=benches, health=health)
        await ask(log, topics, f"apply-{pool}", body, pool=pool, roles=ROLES)


async def run_on(log: Log, topics: Topics, pool: str, bench: str, execution_id: str) -> None:
    body = SubmitExecution(
        execution_id=execution_id, selector=f"name={bench}", priority=0, retries=0, run=RUN
    )
    await ask(log, topics, execution_id, body, pool=pool, roles=ROLES)


class Journal:
    """All events there are; each reading goes on where the last one ended."""

    def __init__(self, log: Log, topics: Topics) -> None:
        self._log = log
        self._topic = topics.events
        self._starts: dict[int, int] = {}
        self._events: list[EventMessage] = []

    async def read(self) -> list[EventMessage]:
        for record in await read_all(self._log, self._topic, self._starts):
            self._events.append(decode_event(record.value))
        return self._events

    async def until(self, is_so: Callable[[list[EventMessage]], bool]) -> list[EventMessage]:
        end_s = asyncio.get_running_loop().time() + JUDGED_S_MAX
        while not is_so(await self.read()):
            told = Counter(type(event.body).__name__ for event in self._events)
            assert asyncio.get_running_loop().time() < end_s, f"it did not come to it: {told}"
            await asyncio.sleep(0.3)
        return self._events


def windows(events: list[EventMessage]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return for each bench its windows, cut at restores: errors before it was taken out, and
    how often a watcher took it out. Knows nothing of the rule's code but the codes.
    """
    found: dict[tuple[str, str], list[list[int]]] = {bench: [[0, 0]] for bench in BENCHES}
    for message in events:
        body, pool = message.body, message.meta.pool
        match body:
            case AttemptFinished(verdict="error", fault="bench"):
                errors, asked = found[pool, body.bench][-1]
                found[pool, body.bench][-1] = [errors + (asked == 0), asked]
            case BenchQuarantined():
                assert message.meta.actor == ACTOR, f"{message.meta.actor} took {body.bench} out"
                found[pool, body.bench][-1][1] += 1
            case BenchRestored():
                found[pool, body.bench].append([0, 0])
            case _:
                pass
    return {key: [(errors, asked) for errors, asked in each] for key, each in found.items()}


def out(events: list[EventMessage]) -> set[tuple[str, str]]:
    return {bench for bench, each in windows(events).items() if each[-1][1]}


def judge(events: list[EventMessage]) -> None:
    """Each window with too many errors led to one quarantine, each other one to none."""
    for bench, each in windows(events).items():
        for errors, taken_out in each:
            assert taken_out == (1 if errors > ERRORS_MAX else 0), f"{bench}: {each}"


def is_all_out(events: list[EventMessage]) -> bool:
    return all(
        taken_out for each in windows(events).values() for errors, taken_out in each[-1:]
        if errors > ERRORS_MAX
    )  # fmt: skip


async def prepare(kafka: str, topics: Topics) -> None:
    await ensure_topics(kafka, specs(topics, partitions=PARTITIONS, min_insync=1), replication=1)


def test_a_sick_bench_is_taken_out_once_and_a_sound_one_never(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        async with KafkaLog(kafka, client_id="test") as log:
            with lab(kafka, topic_prefix, tmp_path), watcher(kafka, topic_prefix, tmp_path):
                await apply_benches(log, topics)
                for n in range(ERRORS_MAX + 1):
                    await run_on(log, topics, "lab-a", "b0", f"a{n}")
                for n in range(ERRORS_MAX):
                    await run_on(log, topics, "lab-a", "b1", f"b{n}")
                await Journal(log, topics).until(lambda events: ("lab-a", "b0") in out(events))
                body = RestoreBench(bench="b0")
                await ask(log, topics, "restore", body, pool="lab-a", roles=ROLES)
                await run_on(log, topics, "lab-a", "b0", "after")

                def is_over(events: list[EventMessage]) -> bool:
                    ended = [e for e in events if isinstance(e.body, AttemptFinished)]
                    return len(ended) == 2 * ERRORS_MAX + 2

                events = await Journal(log, topics).until(is_over)
        judge(events)
        assert windows(events)["lab-a", "b0"] == [(ERRORS_MAX + 1, 1), (1, 0)]
        told = next(e.body for e in events if isinstance(e.body, BenchQuarantined))
        assert "the relay sticks" in told.reason

    asyncio.run(scenario())


async def until_at_work(process: Process) -> None:
    """Wait until it was given partitions; the log is also that of the lives before."""
    known = process.told("partition.taken")
    end_s = asyncio.get_running_loop().time() + JUDGED_S_MAX
    while process.told("partition.taken") == known:
        assert asyncio.get_running_loop().time() < end_s, "it got no partition"
        await asyncio.sleep(0.05)


async def use(log: Log, topics: Topics, dice: random.Random, over: asyncio.Event) -> None:
    """Run tests on sick benches until it is over."""
    for count in itertools.count():
        if over.is_set():
            return
        pool, bench = dice.choice(BENCHES)
        await run_on(log, topics, pool, bench, f"x{count}")
        await asyncio.sleep(dice.uniform(0.0, 0.15))


async def repair(log: Log, topics: Topics, over: asyncio.Event) -> None:
    """Restore what was taken out, again and again, until it is over."""
    journal = Journal(log, topics)
    for turn in itertools.count():
        if over.is_set():
            return
        for pool, bench in sorted(out(await journal.read())):
            body = RestoreBench(bench=bench)
            await ask(log, topics, f"{pool}-{bench}-{turn}", body, pool=pool, roles=ROLES)
        await asyncio.sleep(0.3)


def test_killed_at_any_moment_it_misses_nothing_and_asks_once(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        topics = Topics(topic_prefix)
        await prepare(kafka, topics)
        dice = random.Random(4)
        async with KafkaLog(kafka, client_id="test") as log:
            with lab(kafka, topic_prefix, tmp_path):
                await apply_benches(log, topics)
                over = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(use(log, topics, dice, over))
                    group.create_task(repair(log, topics, over))
                    for turn in range(KILLS):
                        with watcher(kafka, topic_prefix, tmp_path) as process:
                            if turn % 4:
                                await until_at_work(process)
                            await asyncio.sleep(dice.uniform(0.0, 3.0))
                    over.set()
                with watcher(kafka, topic_prefix, tmp_path):
                    journal = Journal(log, topics)
                    await journal.until(is_all_out)
                    await asyncio.sleep(3.0)  # Time enough for a second one, were there any.
                    events = await journal.until(is_all_out)
        judge(events)
        taken_out = sum(n for each in windows(events).values() for _, n in each)
        assert taken_out >= KILLS, f"only {taken_out} windows were of use"

    asyncio.run(scenario())
