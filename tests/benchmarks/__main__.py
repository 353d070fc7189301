"""`make bench`: prints the figures of the whole system on this machine, worst first within a row.

Starts everything as `teo up` does, in a folder of its own. Never fails on a slow machine: it
prints what it is, with the machine's load.
"""

import argparse
import asyncio
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import fastavro
import httpx

from cli.local.stack import Stack, StackConfig
from events import registry
from events.codec import decode_event
from events.kafka.log import KafkaLog
from events.topics import Durability
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger
from tests.benchmarks import replays
from tests.benchmarks.broker_down import rates
from tests.benchmarks.http import Connection
from tests.benchmarks.projections import journal
from tests.benchmarks.recovery import LENGTHS, build, measured
from tests.benchmarks.takeover import takeovers

POOL = "bench"
ONE_CLIENT, CYCLES_16, SUBMITS, NOOPS, LINES = 200, 1_600, 30, 400, 200_000
WARM_UP = 50
"""Cycles before the first figure: the broker's JVM is slow at first, which is not the figure."""
FOLD_EXECUTIONS = 3_000


def show(what: str, figure: str) -> None:
    load = os.getloadavg()[0]
    print(f"{what:<52} {figure:<52} load {load:.1f}", flush=True)


def spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p99 {p99 * 1000:.1f} ms, median {statistics.median(ordered) * 1000:.1f} ms"


async def furnish(client: httpx.AsyncClient) -> None:
    benches = [
        {"name": f"free-{n}", "labels": {"use": "reserve"}, "adapter": "mock", "config": {}}
        for n in range(16)
    ]
    benches += [
        {"name": f"noop-{n}", "labels": {"use": "noop"}, "adapter": "mock", "config": {}}
        for n in range(8)
    ]
    benches.append({"name": "local", "labels": {"use": "true"}, "adapter": "local", "config": {}})
    answer = await client.put(f"/v1/pools/{POOL}/benches", json={"benches": benches})
    answer.raise_for_status()
    while True:
        listed = (await client.get("/v1/benches", params={"pool": POOL})).json()["items"]
        if all(bench["state"] == "idle" for bench in listed):
            return
        await asyncio.sleep(0.1)


def connect(stack: Stack) -> Connection:
    return Connection(int(stack.server.rpartition(":")[2]), stack.token)


async def cycles(stack: Stack, count: int) -> list[float]:
    """Reserve and release, one after the other; return how long each grant took."""
    took: list[float] = []
    connection = connect(stack)
    body = {"pool": POOL, "selectors": ["use=reserve"], "duration_s": 600}
    for _ in range(count):
        start_s = time.perf_counter()
        made = await connection.ask("POST", "/v1/reservations", body)
        path = f"/v1/reservations/{made['id']}"
        while made["status"] == "queued":
            made = await connection.ask("GET", f"{path}?wait_s=10&until=granted")
        took.append(time.perf_counter() - start_s)
        await connection.ask("DELETE", path)
    await connection.close()
    return took


async def one_client(stack: Stack) -> None:
    await cycles(stack, WARM_UP)
    start_s = time.perf_counter()
    took = await cycles(stack, ONE_CLIENT)
    rate = 2 * ONE_CLIENT / (time.perf_counter() - start_s)
    show("reserve -> granted, one client", f"{spread(took)}, {rate:.0f} commands/s")


async def sixteen_clients(stack: Stack) -> None:
    start_s = time.perf_counter()
    each = await asyncio.gather(*(cycles(stack, CYCLES_16 // 16) for _ in range(16)))
    rate = CYCLES_16 / (time.perf_counter() - start_s)
    took = [one for some in each for one in some]
    show("reserve-release cycles, 16 clients", f"{rate:.0f}/s, granted {spread(took)}")


async def submit(connection: Connection, use: str, command: list[str]) -> str:
    body = {"pool": POOL, "selector": f"use={use}", "run": {"command": command}}
    return str((await connection.ask("POST", "/v1/executions", body))["id"])


async def finished(connection: Connection, name: str) -> Any:
    while True:
        path = f"/v1/executions/{name}?wait_s=30&until=finished"
        found = await connection.ask("GET", path)
        if found["status"] == "finished":
            return found


async def verdicts(stack: Stack) -> None:
    took: list[float] = []
    connection = connect(stack)
    for _ in range(SUBMITS):
        start_s = time.perf_counter()
        await finished(connection, await submit(connection, "true", ["true"]))
        took.append(time.perf_counter() - start_s)
    await connection.close()
    show("submit -> verdict of `true`, local adapter", spread(took))


async def noops(stack: Stack) -> None:
    async def some() -> list[str]:
        connection = connect(stack)
        names = [await submit(connection, "noop", ["noop"]) for _ in range(NOOPS // 16)]
        for name in names:
            await finished(connection, name)
        await connection.close()
        return names

    start_s = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(16)))
    rate = NOOPS / (time.perf_counter() - start_s)
    show("no-op executions, 8 benches and slots, mock adapter", f"{rate:.0f}/s")


async def lines(stack: Stack, client: httpx.AsyncClient) -> None:
    script = f"import sys; sys.stdout.writelines(('x' * 99 + '\\n') for _ in range({LINES}))"
    connection = connect(stack)
    name = await submit(connection, "true", [sys.executable, "-c", script])
    await connection.close()
    start_s, seen = 0.0, 0
    headers = {"Accept": "text/event-stream"}
    path = f"/v1/executions/{name}/logs"
    async with client.stream("GET", path, headers=headers, timeout=120) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:") and '"lines"' in line:
                start_s = start_s or time.perf_counter()
                seen += len(json.loads(line[5:])["lines"])
            if line.startswith("event: end"):
                break
    rate = seen / (time.perf_counter() - start_s)
    show("log lines of 100 bytes to a following client", f"{rate:,.0f}/s ({seen:,} of {LINES:,})")


def fold_beside_decode() -> None:
    records = journal(FOLD_EXECUTIONS)
    schemas = {each.schema_id: fastavro.parse_schema(each.schema) for each in registry.published()}

    def raw() -> None:
        for record in records:
            data = record.value or b""
            schema = schemas[int.from_bytes(data[1:5])]
            fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)

    def whole() -> None:
        for record in records:
            decode_event(record.value)

    def rate(work: Callable[[], None]) -> float:
        took: list[float] = []
        for _ in range(5):
            start_s = time.process_time()
            work()
            took.append(time.process_time() - start_s)
        return len(records) / statistics.median(took)

    messages = [decode_event(record.value) for record in records]
    start_s = time.process_time()
    ledger = Ledger(0)
    for message in messages:
        try:
            fold(ledger, message)
        except KeyError:  # The benchmark's journal registers no worker.
            continue
    evolve_s = (time.process_time() - start_s) / len(records)
    decoded, raw_rate = rate(whole), rate(raw)
    folded = 1 / (1 / decoded + evolve_s)
    show(
        "journal fold beside raw fastavro decode",
        f"{folded:,.0f}/s beside {raw_rate:,.0f}/s: ratio {folded / raw_rate:.2f}",
    )


async def recovery(bootstrap: str) -> None:
    """Recover from histories of different lengths, with and without a snapshot."""
    async with KafkaLog(bootstrap, client_id="bench") as log:
        made = await build(log, bootstrap, "recovery.")
        for length in LENGTHS:
            await made.grow(length)
            for with_snapshot in (True, False):
                found = await measured(bootstrap, "recovery.", with_snapshot=with_snapshot)
                kind = "from a snapshot" if with_snapshot else "from the start"
                show(
                    f"recovery of {length:,} events, {kind}",
                    f"{found.took_s:.2f} s ({found.cpu_s:.2f} s CPU), {found.folded:,} folded, "
                    f"{found.rss_mb:.0f} MB",
                )
        await made.close()
    show("journal bytes of an execution", f"{made.journal_bytes / made.executions:,.0f}")
    show(
        "snapshot after a day of one execution a second",
        f"{made.snapshot_bytes / 1e6:.1f} MB, takes {made.snapshot_s:.2f} s at most",
    )


async def takeover(bootstrap: str) -> None:
    """Kill and stop schedulers beside a standby."""
    killed, stopped = await takeovers(bootstrap, "takeover.")
    for signal_name, took in (("kill -9", killed), ("SIGTERM", stopped)):
        show(
            f"a standby decides after {signal_name}",
            f"worst {max(took):.2f} s, median {statistics.median(took):.2f} s",
        )


async def broker_down(folder: Path) -> None:
    """Commands decided on three brokers while one of them is killed."""
    for phase, (rate, pause_s) in (await rates(folder)).items():
        show(f"three brokers, {phase}", f"longest pause {pause_s:.2f} s, {rate:.0f} commands/s")


async def replayed() -> None:
    """Streams that replay the journal beside somebody else's requests."""
    for what, figure in replays.lines(await replays.with_kafka(replays.replays), spread):
        show(what, figure)


def memory(pids: dict[str, int]) -> None:
    for role, pid in sorted(pids.items()):
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        show(f"resident memory, {role}", f"{int(rss.split()[1]) / 1024:.0f} MB")


def cli_start() -> None:
    took: list[float] = []
    teo = str(Path(sys.executable).with_name("teo"))
    for _ in range(20):
        start_s = time.perf_counter()
        subprocess.run([teo, "--version"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - start_s)
    show("teo --version", spread(took))


@asynccontextmanager
async def system(durability: Durability) -> AsyncIterator[tuple[Stack, httpx.AsyncClient]]:
    """Start everything, with benches."""
    with tempfile.TemporaryDirectory(prefix="teo-bench-") as folder:
        config = StackConfig(folder=Path(folder), port=0, context=None, durability=durability)
        stack = Stack(config, note=lambda _: None)
        async with (
            stack.started(),
            httpx.AsyncClient(
                base_url=stack.server,
                headers={"Authorization": f"Bearer {stack.token}"},
                timeout=60,
            ) as client,
        ):
            await furnish(client)
            yield stack, client


async def pairs(count: int) -> None:
    """Measure what durability costs: on disk and in memory in turns, on one machine."""
    for turn in range(count):
        for durability in get_args(Durability):
            show(f"facts on {durability}, turn {turn + 1}", "")
            async with system(durability) as (stack, _):
                await one_client(stack)
                await sixteen_clients(stack)
                await noops(stack)


async def main() -> None:
    # A broker is killed on purpose; what that costs is in the figures.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    fold_beside_decode()
    cli_start()
    await pairs(1)
    async with system("disk") as (stack, client):
        memory(stack.pids)
        await verdicts(stack)
        await lines(stack, client)
        await takeover(stack.bootstrap)
        await recovery(stack.bootstrap)
    with tempfile.TemporaryDirectory(prefix="teo-bench-") as folder:
        await broker_down(Path(folder))
    await replayed()


def asked() -> Coroutine[None, None, None]:
    """Return what is to be measured."""
    parser = argparse.ArgumentParser(prog="make bench")
    help_text = "measure only the cost of durability, so many times in turns"
    parser.add_argument("--pairs", type=int, metavar="N", help=help_text)
    count = parser.parse_args().pairs
    return main() if count is None else pairs(count)


if __name__ == "__main__":
    asyncio.run(asked())
