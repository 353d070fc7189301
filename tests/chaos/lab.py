"""A whole lab of real processes on a real cluster of three brokers, under a nemesis; then judged.

Two schedulers, three workers, two APIs with a projection each, all behind the fault proxy.
"""

import asyncio
import os
import random
import re
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from cli.local.cluster import EmbeddedKafka
from events import facts
from events.errors import LogUnavailable
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.message import EventMessage
from events.topics import Topics, specs
from tests.chaos import evidence
from tests.chaos.clients import Client, History, User
from tests.chaos.cluster import proxied_kafka
from tests.chaos.disk import Disk
from tests.chaos.judge import Judged, judge
from tests.chaos.nemesis import Nemesis, Targets
from tests.chaos.proxy import Proxy
from tests.chaos.roles import RoleProcess, owner_of

POOLS = ("lab-a", "lab-b")
PARTITIONS = 4
BROKERS = 3
USERS = 10
SETTLE_S_MAX = 300.0
READY_S_MAX = 90.0
KEEPER_S = 3.0
LIVE_TRIES = 20
LIVE_WAIT_S = 2.0
OPEN_FILES = 8_192
GAUGE = re.compile(r'^teo_scheduler_(\w+)\{[^}]*pool="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
SHIFTED = Path(__file__).with_name("shifted.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A chaos run."""

    folder: Path
    seed: int
    minutes: float


@dataclass(slots=True)
class Report:
    """What happened, and that it was found to be right."""

    plan: Plan
    history: History = field(default_factory=History)
    faults: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    ended_by_itself: Mapping[str, Sequence[int]] = field(default_factory=dict)
    settled_s: float = 0.0
    judged: Judged | None = None

    def text(self) -> str:
        """Return the summary."""
        lines = [f"chaos: {self.plan.minutes:g} minutes, SEED={self.plan.seed}"]
        history = self.history
        retries = ", ".join(f"{n} {why}" for why, n in history.retries.most_common())
        lines.append(
            f"  clients: {history.asked} asks, {len(history.acks)} answers with a command's id;"
            f" sent again for: {retries or 'nothing'}"
        )
        lines.append(f"  settled {self.settled_s:.1f} s after the last fault was mended")
        lines.append(f"  faults: {sum(self.faults.values())}")
        lines += [f"    {n:6} {kind}" for kind, n in sorted(self.faults.items())]
        lines.append(f"  single requests: {sum(self.requests.values())}")
        lines += [f"    {n:6} {kind}" for kind, n in sorted(self.requests.items())]
        lines += [f"  skipped {n} times: {kind}" for kind, n in sorted(self.skipped.items())]
        for name, codes in sorted(self.ended_by_itself.items()):
            lines.append(f"  {name} ended by itself: {codes}")
        if self.judged is not None:
            lines += self.judged.lines()
        return "\n".join(lines)


class ChaosFailed(AssertionError):
    """Raised when a run breaks a rule or does not settle; names the seed and the folder."""


async def run(plan: Plan, note: Callable[[str], None]) -> Report:
    """Do a run. Raises `ChaosFailed`."""
    report = Report(plan)
    try:
        async with AsyncExitStack() as stack:
            lab = await stack.enter_async_context(_lab(plan, note))
            await lab.run(report)
    except Exception as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        raise ChaosFailed(
            f"SEED={plan.seed} (evidence in {plan.folder}): {error!r}\n{report.text()}"
        ) from error
    return report


class Lab:
    """Everything that runs."""

    def __init__(
        self,
        plan: Plan,
        note: Callable[[str], None],
        *,
        kafka: EmbeddedKafka,
        proxy: Proxy,
        roles: list[RoleProcess],
        servers: list[str],
        tokens: Mapping[str, str],
        disk: Disk,
    ) -> None:
        self.topics = Topics("chaos")
        self._plan = plan
        self._note = note
        self._kafka = kafka
        self._proxy = proxy
        self._roles = roles
        self._servers = servers
        self._tokens = tokens
        self._marks = plan.folder / "marks"
        self._stop = asyncio.Event()
        self._nemesis = Nemesis(
            Targets(
                kafka=kafka,
                proxy=proxy,
                roles=roles,
                disk=disk,
                clock_file=plan.folder / "clock",
                in_step=self._in_step,
            ),
            plan.seed,
            note,
        )

    async def run(self, report: Report) -> None:
        """Serve, break, mend, settle, judge."""
        watch = evidence.Watch(self._marks)
        history = report.history
        clients = {
            name: Client(name, token, self._servers, history, self._plan.seed)
            for name, token in self._tokens.items()
        }
        keepers = [asyncio.create_task(role.keep()) for role in self._roles]
        keepers.append(asyncio.create_task(watch.run()))
        try:
            await self._prepare(clients["admin"])
            keepers.append(asyncio.create_task(self._keep_benches(clients["admin"])))
            users = [
                asyncio.create_task(
                    User(
                        client,
                        pools=POOLS,
                        marks=self._marks,
                        stop=self._stop,
                        seed=self._plan.seed,
                    ).work()
                )
                for name, client in clients.items()
                if name != "admin"
            ]
            await self._break(users)
            await self._nemesis.heal()
            self._note("all is mended")
            mended_s = time.monotonic()
            await self._settle(users, history)
            report.settled_s = time.monotonic() - mended_s
            report.judged = await self._judge(history, watch)
        finally:
            self._tell(report)
            for task in keepers:
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for client in clients.values():
                await client.close()

    def _tell(self, report: Report) -> None:
        report.faults = self._nemesis.counts
        report.skipped = self._nemesis.skipped
        report.requests = {
            f"{action.value} of {api}": n for (action, api), n in self._proxy.counts.items()
        }
        report.ended_by_itself = {
            role.name: role.ended_by_itself for role in self._roles if role.ended_by_itself
        }

    async def _prepare(self, admin: Client) -> None:
        for pool in POOLS:
            await admin.ask("PUT", f"/v1/pools/{pool}/benches", {"benches": _benches()})
        end_s = time.monotonic() + READY_S_MAX
        while True:
            listed = await admin.get("/v1/benches?limit=500")
            if listed and all(each["state"] == "idle" for each in listed["items"]):
                return
            if time.monotonic() > end_s:
                raise ChaosFailed("the benches do not come up")
            await asyncio.sleep(0.5)

    async def _break(self, users: Sequence["asyncio.Task[None]"]) -> None:
        nemesis = asyncio.create_task(self._nemesis.run())
        ends = asyncio.create_task(asyncio.sleep(self._plan.minutes * 60))
        try:
            await asyncio.wait({nemesis, ends, *users}, return_when=asyncio.FIRST_COMPLETED)
            for task in (nemesis, *users):
                if task.done():
                    task.result()
        finally:
            self._stop.set()
            for task in (nemesis, ends):
                task.cancel()
            await asyncio.gather(nemesis, ends, return_exceptions=True)

    async def _keep_benches(self, admin: Client) -> None:
        """Restore what was quarantined, as a lab's keeper does."""
        while True:
            await asyncio.sleep(KEEPER_S)
            listed = await admin.get("/v1/benches?state=quarantined&limit=500")
            for bench in (listed or {"items": []})["items"]:
                path = f"/v1/pools/{bench['pool']}/benches/{bench['name']}/restore"
                self._note(f"restoring {bench['name']} of {bench['pool']}: {bench['reason']}")
                await admin.ask("POST", path, {})

    async def _settle(self, users: Sequence["asyncio.Task[None]"], history: History) -> None:
        """Return once all asks are answered and all executions and reservations have ended."""
        end_s = time.monotonic() + SETTLE_S_MAX
        _, waiting = await asyncio.wait(users, timeout=SETTLE_S_MAX)
        if waiting:
            raise ChaosFailed(f"{len(waiting)} clients are not answered")
        for user in users:
            user.result()
        async with KafkaLog(self._kafka.bootstrap, client_id="judge") as log:
            while True:
                left = ["the log does not answer"]
                with suppress(LogUnavailable):
                    left = _left(await evidence.journals(log, self.topics), history)
                if not left:
                    return
                if time.monotonic() > end_s:
                    raise ChaosFailed(f"not settled in {SETTLE_S_MAX:.0f} s: {left[:20]}")
                await asyncio.sleep(1.0)

    async def _judge(self, history: History, watch: evidence.Watch) -> Judged:
        folder = self._plan.folder
        live = await _settled_counts(self._roles)
        for task_of in self._roles:
            await task_of.stop()
        async with KafkaLog(self._kafka.bootstrap, client_id="judge") as log:
            return await judge(
                log,
                self.topics,
                history=history,
                marks=self._marks,
                artifacts=folder / "artifacts",
                databases={f"api-{n}": folder / f"api-{n}" / "db.sqlite" for n in (1, 2)},
                sightings=[*watch.seen.values(), *evidence.look(self._marks)],
                live=live,
            )

    async def _in_step(self) -> bool:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._kafka.bootstrap, request_timeout_ms=5_000
        )
        names = [spec.name for spec in specs(self.topics, partitions=PARTITIONS, min_insync=2)]
        try:
            async with asyncio.timeout(10.0):
                await client.start()
                topics = await client.describe_topics(names)
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()
        return all(
            len(partition["isr"]) == BROKERS
            for topic in topics
            for partition in topic["partitions"]
        )


def _left(journals: Sequence[Sequence[EventMessage]], history: History) -> list[str]:
    """Return what is still open: executions, reservations, and asks without an outcome."""
    is_open: dict[str, None] = dict.fromkeys(sorted(history.executions))
    decided: set[str] = set()
    for message in (each for journal in journals for each in journal):
        decided.add(message.meta.causation_id)
        match message.body:
            case facts.ExecutionSubmitted() as body:
                is_open[body.execution_id] = None
            case facts.ReservationRequested() as body:
                is_open[body.reservation_id] = None
    for message in (each for journal in journals for each in journal):
        match message.body:
            case facts.ExecutionFinished() as body:
                is_open.pop(body.execution_id, None)
            case (
                facts.ReservationReleased()
                | facts.ReservationExpired()
                | facts.ReservationCancelled()
                | facts.ReservationRevoked()
            ) as body:
                is_open.pop(body.reservation_id, None)
    undecided = sorted({ack.command_id for ack in history.acks} - decided)
    return [*is_open, *(f"command {each}" for each in undecided)]


async def _live_counts(roles: Sequence[RoleProcess]) -> dict[str, int]:
    """Return how much the live schedulers say they know together, by pool and kind."""
    counts: dict[str, int] = {}
    async with httpx.AsyncClient(timeout=10.0) as http:
        for role in roles:
            if role.health_port:
                answer = await http.get(f"http://127.0.0.1:{role.health_port}/metrics")
                for name, pool, count in GAUGE.findall(answer.text):
                    key = f"{pool} {name}"
                    counts[key] = counts.get(key, 0) + int(float(count))
    return counts


async def _settled_counts(roles: Sequence[RoleProcess]) -> dict[str, int]:
    """Return the counts once they stay the same: a partition may just be changing hands."""
    before: dict[str, int] | None = None
    for _ in range(LIVE_TRIES):
        with suppress(httpx.HTTPError):
            now = await _live_counts(roles)
            if now == before:
                return now
            before = now
        await asyncio.sleep(LIVE_WAIT_S)
    raise ChaosFailed(f"the live schedulers do not come to rest: {before}")


def _benches() -> list[dict[str, object]]:
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
async def _lab(plan: Plan, note: Callable[[str], None]) -> AsyncIterator[Lab]:
    """Start everything; end everything."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    folder = plan.folder
    for name in ("marks", "logs", "artifacts", "api-1", "api-2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "clock").write_text("0")
    roles: list[RoleProcess] = []
    dice = random.Random(f"proxy/{plan.seed}")

    def group_of(port: int) -> str:
        return owner_of(port, roles)

    async with (
        _disk(folder / "worker-1") as disk,
        proxied_kafka(folder / "kafka", nodes=BROKERS, dice=dice, group_of=group_of) as (
            kafka,
            proxy,
        ),
    ):
        await ensure_topics(
            kafka.bootstrap,
            specs(Topics("chaos"), partitions=PARTITIONS, min_insync=2),
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
                yield Lab(
                    plan,
                    note,
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
    env["TEO_CHAOS_CLOCK"] = str(folder / "clock")
    env["PYTHONPATH"] = str(SHIFTED.parents[2])
    common = ["--kafka", kafka, "--topic-prefix", "chaos"]
    artifacts = ["--artifacts", str(folder / "artifacts")]

    def role(
        name: str, *arguments: str, health_port: int = 0, shifted: bool = False
    ) -> RoleProcess:
        start = [str(SHIFTED)] if shifted else ["-m", "cli.main"]
        return RoleProcess(
            name,
            [sys.executable, *start, "serve", *arguments, *common],
            log=folder / "logs" / f"{name}.log",
            env=env,
            parent_fd=parent_fd,
            health_port=health_port,
        )

    def worker(number: int) -> RoleProcess:
        name = f"worker-{number}"
        pools = [word for pool in POOLS for word in ("--pool", pool)]
        state = ["--state-dir", str(folder / name), "--drain", "5s"]
        return role(name, "worker", "--id", name, *pools, *state, *artifacts, shifted=number == 2)

    def api(number: int) -> RoleProcess:
        name = f"api-{number}"
        files = ["--tokens", str(folder / "tokens.json"), "--database",
                 str(folder / name / "db.sqlite")]  # fmt: skip
        return role(name, "api", "--port", str(ports[number - 1]), *files, *artifacts)

    def scheduler(number: int) -> RoleProcess:
        port = ports[number + 1]
        return role(
            f"scheduler-{number}", "scheduler", "--health-port", str(port), health_port=port
        )

    return [
        *(scheduler(number) for number in (1, 2)),
        *(worker(number) for number in (1, 2, 3)),
        *(api(number) for number in (1, 2)),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
