"""What 50 slow streams that replay 100,000 events cost everybody else of the same API.

A part of `make bench`, and a program of its own (`python -m tests.benchmarks.replays`).
"""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from cli.local.cluster import ClusterConfig, EmbeddedKafka
from events.kafka.log import KafkaLog
from tests.benchmarks.http import Connection
from tests.benchmarks.recovery import build

PREFIX = "replay"
EVENTS = 100_000
STREAMS = 50
SLOW_BYTES, SLOW_PAUSE_S = 32_768, 0.05
"""A slow client takes so much, then waits."""
SECONDS = 20.0
PAUSE_S = 0.01
READY_S_MAX = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was measured. Times in seconds, of single requests of somebody else."""

    alone_s: list[float]
    beside_s: list[float]
    bytes_s: float
    """What the streams got, together."""
    rss_mb: float
    whole_s: float
    """How long one fast stream takes for all events."""


async def replays(bootstrap: str, folder: Path) -> Replayed:
    """Fill a journal, serve it, and measure."""
    async with KafkaLog(bootstrap, client_id="bench") as log:
        made = await build(log, bootstrap, PREFIX)
        await made.grow(EVENTS)
        await made.close()
    token = new_token()
    viewer = Principal(actor="viewer", roles=("viewer",))
    write_token_file(folder / "tokens.json", {token: viewer})
    port = _free_port()
    command = [
        *(sys.executable, "-m", "cli.main", "serve", "api", "--kafka", bootstrap),
        *("--topic-prefix", PREFIX, "--port", str(port)),
        *("--tokens", str(folder / "tokens.json"), "--database", str(folder / "db.sqlite")),
    ]
    with (folder / "api.log").open("wb") as output:
        api = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        return await _measured(api.pid, port, token)
    finally:
        api.kill()
        await api.wait()


async def _measured(pid: int, port: int, token: str) -> Replayed:
    other = Connection(port, token)
    await _until_ready(other)
    alone_s = await _asked(other, 5.0)
    started_s = time.perf_counter()
    await _stream(port, token, lambda taken: taken >= EVENTS * 0.99, pause_s=0.0)
    whole_s = time.perf_counter() - started_s
    got: list[int] = [0]

    def count(_: int) -> bool:
        return False

    streams = [
        asyncio.create_task(_stream(port, token, count, pause_s=SLOW_PAUSE_S, got=got))
        for _ in range(STREAMS)
    ]
    started_s = time.perf_counter()
    beside_s = await _asked(other, SECONDS)
    bytes_s = got[0] / (time.perf_counter() - started_s)
    rss_mb = _rss_mb(pid)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    await other.close()
    return Replayed(
        alone_s=alone_s, beside_s=beside_s, bytes_s=bytes_s, rss_mb=rss_mb, whole_s=whole_s
    )


async def _until_ready(other: Connection) -> None:
    end_s = time.monotonic() + READY_S_MAX
    while True:
        try:
            await other.ask("GET", "/readyz")
        except (OSError, RuntimeError):
            if time.monotonic() > end_s:
                raise
            await other.close()
            await asyncio.sleep(0.2)
        else:
            return


async def _asked(other: Connection, seconds: float) -> list[float]:
    """Ask for this and that, one after the other; return how long each took."""
    took: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        started_s = time.perf_counter()
        await other.ask("GET", "/v1/benches?limit=20")
        took.append(time.perf_counter() - started_s)
        await asyncio.sleep(PAUSE_S)
    return took


async def _stream(
    port: int,
    token: str,
    is_enough: Callable[[int], bool],
    *,
    pause_s: float,
    got: list[int] | None = None,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=SLOW_BYTES)
    try:
        head = "GET /v1/events?from=beginning HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        writer.write(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        events = 0
        while not is_enough(events):
            part = await reader.read(SLOW_BYTES)
            if not part:
                raise RuntimeError(f"a stream ended after {events} events")
            events += part.count(b"\nevent: ")
            if got is not None:
                got[0] += len(part)
            if pause_s:
                await asyncio.sleep(pause_s)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def with_kafka(measure: Callable[[str, Path], Awaitable[Replayed]]) -> Replayed:
    """Start a Kafka for the measure alone."""
    with tempfile.TemporaryDirectory(prefix="teo-bench-") as name:
        folder = Path(name)
        async with EmbeddedKafka(ClusterConfig(data_dir=folder / "kafka")) as kafka:
            return await measure(kafka.bootstrap, folder)


def lines(found: Replayed, spread: Callable[[list[float]], str]) -> list[tuple[str, str]]:
    """Return the figures as rows."""
    return [
        ("another's request, nobody replays", spread(found.alone_s)),
        (f"the same beside {STREAMS} slow replays", spread(found.beside_s)),
        (
            f"{STREAMS} slow replays of {EVENTS:,} events",
            f"{found.bytes_s / 1e6:.1f} MB/s in all, API {found.rss_mb:.0f} MB",
        ),
        (f"one replay of {EVENTS:,} events", f"{found.whole_s:.1f} s"),
    ]


if __name__ == "__main__":
    from tests.benchmarks.__main__ import show, spread

    for what, figure in lines(asyncio.run(with_kafka(replays)), spread):
        show(what, figure)
    os._exit(0)
