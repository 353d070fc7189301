"""A worker that is killed, stopped or cut off never leaves a test on a bench that another gets.

Real processes on a real Kafka: the test on the bench writes down each moment it is alive, so what
is judged is what the bench saw, not what anybody says.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from events.codec import decode_event
from events.commands import ApplyBenches, Command, SubmitExecution
from events.facts import Event, ExecutionAssigned, ExecutionFinished, WorkerRegistered
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log
from events.message import EventMessage
from events.shared import BenchSpec, RunSpec
from events.topics import Topics, specs
from tests.chaos.cluster import proxied_kafka
from tests.chaos.proxy import Proxy
from tests.chaos.roles import owner_of
from tests.integration import weakened
from tests.integration.roles import Process, role
from tests.on_log import ask, read_all

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(280)]

TOPICS = Topics("cut")
WAIT_S = 90.0
"""Generous: a worker is missed after 10 s, and the machine may be busy."""
BEATS = """
while :; do
  echo "$TEO_ATTEMPT $(date +%s.%N)" >> "$1"
  [ "$TEO_ATTEMPT" -gt 1 ] && n=$((n + 1)) && [ "$n" -ge 10 ] && exit 0
  sleep 0.1
done
"""


@dataclass(frozen=True)
class Named:
    """A role as the proxy looks for it."""

    name: str
    pid: int


@dataclass
class Lab:
    """A scheduler, two workers that serve one bench, and what may come between."""

    log: Log
    proxy: Proxy
    workers: dict[str, Process]
    beats: Path

    async def ask(self, command_id: str, body: Command) -> None:
        await ask(self.log, TOPICS, command_id, body)

    async def events(self, kind: type[Event]) -> list[EventMessage]:
        records = await read_all(self.log, TOPICS.events)
        found = [decode_event(record.value) for record in records]
        return [message for message in found if isinstance(message.body, kind)]

    def alive_at(self, attempt: int) -> list[float]:
        """Return each moment at which the test of an attempt was alive, Unix time."""
        lines = self.beats.read_text().splitlines() if self.beats.exists() else []
        return [float(line.split()[1]) for line in lines if line.startswith(f"{attempt} ")]


async def until(is_met: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not is_met():
        assert time.monotonic() < end_s, f"not within {WAIT_S:.0f} s: {what}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def lab(folder: Path, *, worker: str = "cli.main") -> AsyncIterator[Lab]:
    """Start everything; `worker` is the module that starts the workers."""
    workers: dict[str, Process] = {}

    def group_of(port: int, called: int) -> str:
        named = [Named(name, process.pid) for name, process in workers.items()]
        return owner_of(port, called, named)

    async with AsyncExitStack() as stack:
        kafka, proxy = await stack.enter_async_context(
            proxied_kafka(folder / "kafka", nodes=1, dice=random.Random(1), group_of=group_of)
        )
        wanted = specs(TOPICS, partitions=1, min_insync=1)
        await ensure_topics(kafka.bootstrap, wanted, replication=1)
        here = ("--kafka", kafka.bootstrap, "--topic-prefix", TOPICS.prefix)
        stack.enter_context(role(folder, "scheduler", *here))
        for name in ("w-1", "w-2"):
            (folder / name).mkdir()
            flags = ["--id", name, "--pool", "lab", "--state-dir", str(folder / name / "state")]
            flags += ["--artifacts", str(folder / "artifacts")]
            workers[name] = stack.enter_context(
                role(folder / name, "worker", *here, *flags, module=worker)
            )
        log = await stack.enter_async_context(KafkaLog(kafka.bootstrap, client_id="test"))
        yield Lab(log=log, proxy=proxy, workers=workers, beats=folder / "beats")
        proxy.clear()


async def running(here: Lab) -> str:
    """Have a test run on the bench; return the worker that has it."""
    bench = BenchSpec(name="b-1", labels={}, adapter="local", config="{}")
    await here.ask("apply", ApplyBenches(benches=(bench,)))
    end_s = time.monotonic() + WAIT_S
    while len(await here.events(WorkerRegistered)) < len(here.workers):
        assert time.monotonic() < end_s, "not all workers are registered"
        await asyncio.sleep(0.2)
    command = ("sh", "-c", BEATS, "beats", str(here.beats))
    run = RunSpec(command=command, env={}, timeout_s=200.0, junit=(), artifacts=())
    asked = SubmitExecution(execution_id="e-1", selector="", priority=0, retries=1, run=run)
    await here.ask("submit", asked)
    await until(lambda: here.alive_at(1), "the test runs")
    (assigned,) = await here.events(ExecutionAssigned)
    assert isinstance(assigned.body, ExecutionAssigned)
    return assigned.body.worker


async def judge(here: Lab, struck: str) -> None:
    """The second attempt passes elsewhere; the first was dead before its bench was given away."""
    end_s = time.monotonic() + WAIT_S
    while not (ends := await here.events(ExecutionFinished)):
        assert time.monotonic() < end_s, "the execution never ends"
        await asyncio.sleep(0.2)
    assert isinstance(ends[0].body, ExecutionFinished)
    assert (ends[0].body.verdict, ends[0].body.attempts) == ("passed", 2)
    first, second = await here.events(ExecutionAssigned)
    assert isinstance(first.body, ExecutionAssigned)
    assert isinstance(second.body, ExecutionAssigned)
    assert (second.body.worker != struck, second.body.bench) == (True, first.body.bench)
    assert second.body.fence > first.body.fence
    last_s, given_s = max(here.alive_at(1)), second.meta.occurred_at.timestamp()
    assert last_s < given_s, f"alive {last_s - given_s:.2f} s after its bench was given away"


async def quiet(here: Lab) -> None:
    """Nothing of the first attempt comes back, also once its worker is back."""
    before = len(here.alive_at(1))
    await asyncio.sleep(3.0)
    assert len(here.alive_at(1)) == before


async def strike(here: Lab, blow: str) -> None:
    """Take a worker away whose test runs, judge what comes of it, and let the worker come back."""
    struck = await running(here)
    pid = here.workers[struck].pid
    if blow == "cut off":
        here.proxy.hold(struck)
        assert here.proxy.cut(struck)
    else:
        os.kill(pid, signal.SIGKILL if blow == "killed" else signal.SIGSTOP)
    try:
        await judge(here, struck)
    finally:
        here.proxy.release(struck)
        if blow == "stopped":
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("blow", ["killed", "stopped", "cut off"])
def test_a_test_is_dead_before_its_bench_is_given_away(tmp_path: Path, blow: str) -> None:
    async def scenario() -> None:
        async with lab(tmp_path) as here:
            await strike(here, blow)
            await quiet(here)

    asyncio.run(scenario())


async def cut_off_without(folder: Path) -> None:
    async with lab(folder, worker="tests.integration.weakened") as here:
        await strike(here, "cut off")


def test_self_fencing_alone_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cleans the bench up afterwards may reach nothing: the worker ended its test itself."""
    monkeypatch.setenv(weakened.WITHOUT, weakened.TEARDOWN)
    asyncio.run(cut_off_without(tmp_path))


def test_with_neither_a_test_outlives_its_bench_and_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of what is judged above."""
    monkeypatch.setenv(weakened.WITHOUT, f"{weakened.SELF_FENCING} {weakened.TEARDOWN}")
    with pytest.raises(AssertionError, match="after its bench was given away"):
        asyncio.run(cut_off_without(tmp_path))
