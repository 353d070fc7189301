"""The processes of a chaos lab, behind the fault proxy: started by hand, ended for certain."""

import os
import random
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from cli.local.cluster import EmbeddedKafka
from events.kafka.admin import ensure_topics
from events.topics import Topics, specs
from tests.chaos.cluster import proxied_kafka
from tests.chaos.disk import Disk
from tests.chaos.proxy import Proxy
from tests.chaos.roles import RoleProcess, owner_of

TOPICS = Topics("chaos")
POOLS = ("lab-a", "lab-b")
PARTITIONS = 4
BROKERS = 3
USERS = 10
SPECS = specs(TOPICS, partitions=PARTITIONS, min_insync=2)
OPEN_FILES = 8_192
SNAPSHOT_EVERY = 300
"""Events; in production many more, here each takeover begins with a snapshot."""
SHIFTED = Path(__file__).with_name("shifted.py")
CLOCKS = ("worker-clock", "api-clock")
"""Files that say by how many seconds the wall clock of the second worker, and API, is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs."""

    kafka: EmbeddedKafka
    proxy: Proxy
    roles: Sequence[RoleProcess]
    servers: Sequence[str]
    """Addresses of the APIs."""
    tokens: Mapping[str, str]
    """By user; `admin` is one of them."""
    disk: Disk
    """The state folder of the first worker."""


def benches() -> list[dict[str, object]]:
    """Return the benches of a pool."""

    def bench(name: str, kind: str, **config: object) -> dict[str, object]:
        adapter = "local" if kind == "local" else "mock"
        return {"name": name, "labels": {"kind": kind}, "adapter": adapter, "config": config}

    return [
        *(bench(f"local-{n}", "local") for n in range(1, 5)),
        bench("mock-1", "mock", run={"delay_s": 0.5}, artifacts={"trace.bin": 10_000}),
        bench("mock-2", "mock", exit_codes=[1], lines=20, junit={"passed": 2, "failed": 1}),
        bench("flaky-1", "flaky", provision={"fail": "no power", "fail_times": 1}),
        bench("flaky-2", "flaky", run={"delay_s": 0.2, "fail": "link lost", "fail_times": 2}),
    ]


@asynccontextmanager
async def stage(folder: Path, seed: int, note: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start everything in `folder`; end everything."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    for name in ("marks", "logs", "artifacts", "api-1", "api-2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in CLOCKS:
        (folder / name).write_text("0")
    roles: list[RoleProcess] = []
    dice = random.Random(f"proxy/{seed}")

    def group_of(port: int, called: int) -> str:
        return owner_of(port, called, roles)

    async with (
        _disk(folder / "worker-1") as disk,
        proxied_kafka(folder / "kafka", nodes=BROKERS, dice=dice, group_of=group_of) as (
            kafka,
            proxy,
        ),
    ):
        await ensure_topics(
            kafka.bootstrap,
            SPECS,
            replication=BROKERS,
        )
        tokens = _tokens(folder)
        ports = [_free_port() for _ in range(4)]
        parent, child = os.pipe()
        try:
            roles += _roles(folder, kafka.bootstrap, ports, parent)
            for role in roles:
                role.start()
            servers = [f"http://127.0.0.1:{port}" for port in ports[:2]]
            note(f"up: Kafka {kafka.bootstrap}, APIs {', '.join(servers)}")
            try:
                yield Stage(
                    kafka=kafka,
                    proxy=proxy,
                    roles=roles,
                    servers=servers,
                    tokens=tokens,
                    disk=disk,
                )
            finally:
                for role in roles:
                    await role.kill()
        finally:
            os.close(parent)
            os.close(child)


@asynccontextmanager
async def _disk(folder: Path) -> AsyncIterator[Disk]:
    disk = Disk(folder)
    try:
        yield disk
    finally:
        disk.close()


def _tokens(folder: Path) -> dict[str, str]:
    tokens = {f"user-{n}": new_token() for n in range(1, USERS + 1)}
    principals = {token: Principal(actor=name, roles=("user",)) for name, token in tokens.items()}
    tokens["admin"] = new_token()
    principals[tokens["admin"]] = Principal(actor="admin", roles=("admin",))
    write_token_file(folder / "tokens.json", principals)
    return tokens


def _roles(folder: Path, kafka: str, ports: Sequence[int], parent_fd: int) -> list[RoleProcess]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("TEO_")}
    env["TEO_INSPECTABLE"] = "1"  # The proxy asks whose connection is whose.
    env["PYTHONPATH"] = str(SHIFTED.parents[2])
    common = ["--kafka", kafka, "--topic-prefix", TOPICS.prefix]
    artifacts = ["--artifacts", str(folder / "artifacts")]

    def role(name: str, *arguments: str, health_port: int = 0, clock: str = "") -> RoleProcess:
        start = [str(SHIFTED)] if clock else ["-m", "cli.main"]
        return RoleProcess(
            name,
            [sys.executable, *start, "serve", *arguments, *common],
            log=folder / "logs" / f"{name}.log",
            env={**env, "TEO_CHAOS_CLOCK": str(folder / clock)},
            parent_fd=parent_fd,
            health_port=health_port,
        )

    def worker(number: int) -> RoleProcess:
        name = f"worker-{number}"
        pools = [word for pool in POOLS for word in ("--pool", pool)]
        state = ["--state-dir", str(folder / name), "--drain", "5s"]
        clock = "worker-clock" if number == 2 else ""
        return role(name, "worker", "--id", name, *pools, *state, *artifacts, clock=clock)

    def api(number: int) -> RoleProcess:
        name = f"api-{number}"
        files = ["--tokens", str(folder / "tokens.json"), "--database",
                 str(folder / name / "db.sqlite")]  # fmt: skip
        clock = "api-clock" if number == 2 else ""
        port = ["--port", str(ports[number - 1])]
        return role(name, "api", *port, *files, *artifacts, clock=clock)

    def scheduler(number: int) -> RoleProcess:
        port = ports[number + 1]
        health = ["--health-port", str(port), "--snapshot-every", str(SNAPSHOT_EVERY)]
        return role(f"scheduler-{number}", "scheduler", *health, health_port=port)

    return [
        *(scheduler(number) for number in (1, 2)),
        *(worker(number) for number in (1, 2, 3)),
        *(api(number) for number in (1, 2)),
        role("watcher-1", "watcher"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
