"""A lab of `teo up` on a disk whose power is cut again and again while its users go on.

The users, and the marks that tests leave on benches, are outside: they are the world, which keeps
what it saw. All that the lab itself keeps is on the disk, Kafka's data too.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from cli.local.jars import user_cache_dir
from cli.local.properties import free_port
from events.codec import decode
from events.kafka.log import KafkaLog
from events.topics import Durability, Topics
from tests.chaos import evidence
from tests.chaos.clients import Client, History, User
from tests.chaos.judge import Judged, judge
from tests.chaos.settling import what_is_left
from tests.chaos.stage import benches
from tests.on_log import read_all
from tests.power.disk import CuttableDisk, kill

TOPICS = Topics()
POOL = "lab-a"
USERS, HURRIED = 5, 2
READY_S_MAX = 120.0
SETTLE_S_MAX = 300.0
FSCK_S_MAX = 60.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When the power is cut: so many seconds after the lab came up, each time.

    None: while it starts, at a moment that the seed chooses.
    """

    folder: Path
    seed: int
    cuts_s: Sequence[float | None]
    durability: Durability = "disk"


@dataclass(slots=True)
class Report:
    """What happened."""

    plan: Plan
    history: History = field(default_factory=History)
    judged: Judged | None = None
    ups_s: list[float] = field(default_factory=list)
    """How long each start took."""

    def text(self) -> str:
        """Return the summary."""
        history, plan = self.history, self.plan
        ups = ", ".join(f"{each:.1f}" for each in self.ups_s)
        lines = [
            f"power cuts: {len(plan.cuts_s)}, SEED={plan.seed}, facts on {plan.durability}",
            f"  clients: {history.asked} asks, {len(history.acks)} answers with a command's id",
            f"  starts took {ups} s",
        ]
        return "\n".join([*lines, *(self.judged.lines() if self.judged else [])])


class DoesNotStart(AssertionError):
    """Raised when `teo up` ends, or is not ready in time, on what a cut has left."""


class PowerLab:
    """`teo up` on a disk."""

    def __init__(self, disk: CuttableDisk, plan: Plan, note: Callable[[str], None]) -> None:
        self.data = disk.folder / "data"
        self.marks = plan.folder / "marks"
        self.marks.mkdir()
        self.port = free_port()
        self._env = {key: word for key, word in os.environ.items() if not key.startswith("TEO_")}
        self._env["TEO_CONFIG"] = str(plan.folder / "config.yaml")
        self._env["TEO_CACHE_DIR"] = str(user_cache_dir())
        self._disk = disk
        self._plan = plan
        self._note = note
        self._log = plan.folder / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start everything."""
        words = ["up", "--data-dir", str(self.data), "--port", str(self.port)]
        words += ["--durability", self._plan.durability]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,
            )

    async def ready(self) -> Any:
        """Return what `teo up` says of itself once it is up. Raises `DoesNotStart`."""
        assert self._process is not None
        end_s = time.monotonic() + READY_S_MAX
        path = self.data / "up.json"
        while True:
            if self._process.poll() is not None or time.monotonic() > end_s:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
                raise DoesNotStart(f"after a power cut it does not start:\n{tail}")
            try:
                state = json.loads(path.read_text())
            except (OSError, ValueError):
                state = {}
            if state.get("pid") == self._process.pid:
                return state
            await asyncio.sleep(POLL_S)

    def cut(self) -> None:
        """Cut the power: of the disk, of `teo up` and of all that it started."""
        assert self._process is not None
        kill(self._process.pid)  # At the same moment, as far as a shell of the disk can tell.
        self._disk.cut()
        for each in evidence.look(self.marks):
            kill(each.pid)
        self._process.wait()
        self._disk.mount()

    def stop(self) -> None:
        """Stop it in good order."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()


async def run(plan: Plan, note: Callable[[str], None]) -> Report:
    """Cut as planned, and judge. Raises `Violated`, `DoesNotStart`, `NoDisk`."""
    report = Report(plan)
    with CuttableDisk(plan.folder / "disk.img", plan.folder / "disk") as disk:
        lab = PowerLab(disk, plan, note)
        await _Run(lab, report, note).run()
    return report


async def lost_commands(plan: Plan) -> set[str]:
    """Cut once, and return the commands that were acknowledged and are not on the log."""
    report = Report(plan)
    with CuttableDisk(plan.folder / "disk.img", plan.folder / "disk") as disk:
        lab = PowerLab(disk, plan, lambda _: None)
        running = _Run(lab, report, lambda _: None)
        await running.serve_and_cut()
        async with EmbeddedKafka(ClusterConfig(data_dir=lab.data / "kafka")) as kafka:
            return await _missing(kafka.bootstrap, report.history)


async def _missing(bootstrap: str, history: History) -> set[str]:
    async with KafkaLog(bootstrap, client_id="judge") as log:
        journals = await evidence.journals(log, TOPICS)
        known = {message.meta.causation_id for journal in journals for message in journal}
        for record in await read_all(log, TOPICS.commands):
            message = decode(record.value)
            known.add(message.meta.command_id)
    return {ack.command_id for ack in history.acks} - known


class _Run:
    """One lab from its first start to its judge."""

    def __init__(self, lab: PowerLab, report: Report, note: Callable[[str], None]) -> None:
        self._lab = lab
        self._report = report
        self._note = note
        self._dice = random.Random(f"power/{report.plan.seed}")
        self._stop = asyncio.Event()
        self._clients: list[Client] = []
        self._users: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve users through all cuts, come to rest, judge."""
        try:
            for after_s in self._report.plan.cuts_s:
                await self._until_cut(after_s)
            state = await self._up()
            await self._settle(state["kafka"])
            await self._fsck()
            self._report.judged = await self._judge()
        finally:
            await self._leave()

    async def serve_and_cut(self) -> None:
        """Serve users up to the first cut and no further."""
        try:
            (after_s,) = self._report.plan.cuts_s
            await self._until_cut(after_s)
        finally:
            await self._leave()

    async def _until_cut(self, after_s: float | None) -> None:
        if after_s is None:
            self._lab.start()
            after_s = self._dice.uniform(0.5, 6.0)
            self._note(f"cut {after_s:.1f} s into a start")
        else:
            await self._up()
            self._note(f"cut after {after_s:.1f} s")
        await asyncio.sleep(after_s)
        await asyncio.to_thread(self._lab.cut)

    async def _up(self) -> Any:
        started_s = time.monotonic()
        self._lab.start()
        state = await self._lab.ready()
        self._report.ups_s.append(time.monotonic() - started_s)
        if not self._users:
            await self._begin(state["server"])
        return state

    async def _begin(self, server: str) -> None:
        """Let users in; their token must be the same after every cut."""
        token, seed = (self._lab.data / "token").read_text().strip(), self._report.plan.seed
        history = self._report.history
        self._clients = [
            Client(f"user-{n}", token, [server], history, seed) for n in range(1 + USERS + HURRIED)
        ]
        keeper, *others = self._clients
        await keeper.ask("PUT", f"/v1/pools/{POOL}/benches", {"benches": benches()})
        self._keeper = asyncio.create_task(_restore(keeper))
        self._users = [
            asyncio.create_task(
                User(client, pools=[POOL], marks=self._lab.marks, stop=self._stop, seed=seed).work()
            )
            for client in others[:USERS]
        ]
        self._users += [asyncio.create_task(_hurry(each, self._stop)) for each in others[USERS:]]

    async def _settle(self, kafka: str) -> None:
        """Return once all asks are answered, and all that was begun has ended."""
        self._stop.set()
        end_s = time.monotonic() + SETTLE_S_MAX
        _, waiting = await asyncio.wait(self._users, timeout=SETTLE_S_MAX)
        assert not waiting, f"{len(waiting)} users are not answered"
        async with KafkaLog(kafka, client_id="judge") as log:
            while left := what_is_left(await evidence.journals(log, TOPICS), self._report.history):
                assert time.monotonic() < end_s, f"not at rest in {SETTLE_S_MAX:.0f} s: {left[:20]}"
                await asyncio.sleep(0.5)

    async def _fsck(self) -> None:
        words = ["fsck", "--data-dir", str(self._lab.data)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(FSCK_S_MAX):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"teo fsck: {output.decode()}"

    async def _judge(self) -> Judged:
        data = self._lab.data
        await asyncio.to_thread(self._lab.stop)
        async with EmbeddedKafka(ClusterConfig(data_dir=data / "kafka")) as kafka:
            missing = await _missing(kafka.bootstrap, self._report.history)
            assert not missing, f"acknowledged and not on the log: {sorted(missing)[:5]}"
            async with KafkaLog(kafka.bootstrap, client_id="judge") as log:
                return await judge(
                    log,
                    TOPICS,
                    history=self._report.history,
                    marks=self._lab.marks,
                    artifacts=data / "artifacts",
                    databases={"api": data / "projections.sqlite"},
                    sightings=[*evidence.look(self._lab.marks)],
                )

    async def _leave(self) -> None:
        tasks = [*self._users, *([self._keeper] if self._keeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()


async def _hurry(client: Client, stop: asyncio.Event) -> None:
    """Ask for a bench and give it back, without a pause: some answer is just given at each cut."""
    body = {"pool": POOL, "selectors": ["kind=mock"], "duration_s": 10, "wait_timeout_s": 20}
    while not stop.is_set():
        name = await client.subject(await client.ask("POST", "/v1/reservations", body))
        if name is not None:
            await client.ask("DELETE", f"/v1/reservations/{name}")


async def _restore(keeper: Client) -> None:
    """Restore what was quarantined, as a lab's keeper does."""
    while True:
        await asyncio.sleep(2.0)
        listed = await keeper.get("/v1/benches?state=quarantined&limit=500")
        for bench in (listed or {"items": []})["items"]:
            await keeper.ask("POST", f"/v1/pools/{POOL}/benches/{bench['name']}/restore", {})
