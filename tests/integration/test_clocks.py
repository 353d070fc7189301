"""A real broker whose clock is set while a test runs and a lease is held.

The broker's clock is set by a few lines of C that are loaded before its libc: its monotonic clock
stays what it is, as when somebody sets the clock of a machine. Without a C compiler it is skipped.
"""

import asyncio
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.local import cluster as embedded
from cli.local.cluster import ClusterConfig, EmbeddedKafka
from events import facts
from events.codec import decode_event
from processors.audit.checkers import check_journal
from tests.integration.small_lab import SmallLab, small_lab
from tests.kafka import embedded_kafka

pytestmark = pytest.mark.broker

HOUR_S = 3600
LEASE_S = 25.0
RUN_S = 15.0
SOURCE = Path(__file__).with_name("set_clock.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")


@dataclass
class Broker:
    """An embedded Kafka, and the file that says how far its clock is ahead."""

    kafka: EmbeddedKafka
    file: Path

    def set_clock(self, ahead_s: int) -> None:
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """A Kafka of its own, whose clock is right and can be set."""
    if COMPILER is None:
        pytest.skip("no C compiler here")
    library, file = tmp_path / "set_clock.so", tmp_path / "ahead"
    file.write_bytes(struct.pack("=q", 0))
    built = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(built, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "JVM_ENV", embedded.JVM_ENV | {"LD_PRELOAD", "TEO_TEST_CLOCK"})
        patch.setitem(os.environ, "LD_PRELOAD", str(library))
        patch.setitem(os.environ, "TEO_TEST_CLOCK", str(file))
        kafka = embedded_kafka(ClusterConfig(data_dir=tmp_path / "kafka"))
        cluster = kafka.__enter__()
    try:
        yield Broker(cluster, file)
    finally:
        kafka.__exit__(None, None, None)


def play(
    broker: Broker, folder: Path, scene: Callable[[SmallLab], Coroutine[Any, Any, None]]
) -> None:
    async def whole() -> None:
        async with small_lab(broker.kafka.bootstrap, "clocks", folder, partitions=1) as lab:
            lab.worker("w1")
            await lab.benches("b1", run={"delay_s": RUN_S})
            await lab.benches("b2")
            await scene(lab)
            check_journal([decode_event(r.value) for r in await lab.records(lab.topics.events)])

    asyncio.run(whole())


async def facts_of(lab: SmallLab, kind: type) -> list[Any]:
    records = await lab.records(lab.topics.events)
    return [body for r in records if isinstance(body := decode_event(r.value).body, kind)]


@pytest.mark.parametrize(
    "hours", [(2,), (-25,), (25, 0)], ids=lambda hours: "then".join(map(str, hours))
)
def test_a_jump_ends_no_lease_and_no_attempt_and_one_key_is_one_execution(
    broker: Broker, tmp_path: Path, hours: tuple[int, ...]
) -> None:
    async def scene(lab: SmallLab) -> None:
        ask = {"pool": "lab", "selectors": ["n=b2"], "duration_s": LEASE_S}
        reservation = (await lab.call("POST", "/v1/reservations", ask, status=201))["id"]
        granted_s = time.monotonic()
        execution = await submit(lab)
        await asyncio.sleep(4.0)  # A few heartbeats: the owner measures the time.
        for each in hours:
            broker.set_clock(each * HOUR_S)
            await asyncio.sleep(3.0)
            assert await submit(lab) == execution, "the same key"
        assert len(await facts_of(lab, facts.ClockJumped)) == len(hours)
        ended = await lab.finished(execution)
        assert (ended["verdict"], len(ended["attempts"])) == ("passed", 1)

        async def is_expired() -> bool:
            found = await lab.call("GET", f"/v1/reservations/{reservation}")
            return bool(found["status"] == "expired")

        await lab.until(is_expired, "the lease is over")
        lasted_s = time.monotonic() - granted_s
        assert LEASE_S - 2.0 < lasted_s < LEASE_S + 20.0
        assert len(await facts_of(lab, facts.ExecutionSubmitted)) == 1
        assert await facts_of(lab, facts.InputSetAside) == []
        # The machine of the API was not set: it says that the clocks differ, and serves.
        other = await lab.http.post(
            "/v1/executions",
            json={"pool": "lab", "selector": "n=b2", "run": {"command": ["true"]}},
            headers={"Authorization": "Bearer t-olga"},
        )
        assert other.status_code == 201, other.text
        ready = await lab.call("GET", "/readyz")
        assert ready["checks"]["clock"]["is_ok"] == (hours[-1] == 0), ready

    play(broker, tmp_path, scene)


async def submit(lab: SmallLab, pool: str = "lab") -> str:
    """Ask for the one execution of the test, under its one key."""
    answer = await lab.http.post(
        "/v1/executions",
        json={"pool": pool, "selector": "n=b1", "run": {"command": ["true"]}},
        headers={"Authorization": "Bearer t-olga", "Idempotency-Key": "the-one"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("hours", [25, -25])
def test_an_api_whose_clock_is_a_day_off_makes_one_execution_of_four_posts(
    kafka: str, topic_prefix: str, tmp_path: Path, hours: int
) -> None:
    """From its very first command on, in a lab that is new."""

    async def scenario() -> None:
        lab_ = small_lab(kafka, topic_prefix, tmp_path, api_ahead_s=hours * HOUR_S)
        async with lab_ as lab:
            lab.worker("w1")
            await lab.benches("b1")
            assert len({await submit(lab) for _ in range(4)}) == 1
            assert len(await facts_of(lab, facts.ExecutionSubmitted)) == 1
            ready = await lab.call("GET", "/readyz")
            assert not ready["checks"]["clock"]["is_ok"]
            assert f"{25 * HOUR_S} s" in ready["checks"]["clock"]["detail"]

    asyncio.run(scenario())


def test_one_key_to_three_pools_at_once_is_three_executions(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        pools = ("north", "south", "west")
        async with small_lab(kafka, topic_prefix, tmp_path, partitions=4) as lab:
            for pool in pools:
                await lab.benches("b1", pool=pool)
            told = await asyncio.gather(*(submit(lab, pool) for pool in pools * 4))
            by_pool = dict(zip(pools * 4, told, strict=True))
            assert told == [by_pool[pool] for pool in pools * 4]
            assert len(set(told)) == len(await facts_of(lab, facts.ExecutionSubmitted)) == 3

    asyncio.run(scenario())
