"""A whole lab of real processes on a real cluster of three brokers, under a nemesis; then judged.

Two schedulers, three workers, two APIs with a projection each, all behind the fault proxy.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from events.errors import LogUnavailable
from events.kafka.log import KafkaLog
from tests.chaos import evidence
from tests.chaos.acts import remake_inputs, shorten_inputs
from tests.chaos.clients import Client, History, User
from tests.chaos.judge import Judged, judge
from tests.chaos.nemesis import Nemesis, Targets
from tests.chaos.settling import fsck, in_step, what_is_left
from tests.chaos.stage import BROKERS, CLOCKS, POOLS, SPECS, TOPICS, Stage, benches, stage

SETTLE_S_MAX = 300.0
READY_S_MAX = 90.0
KEEPER_S = 3.0
AFTER_S = 15.0
"""How long users work on after something was done to the inputs."""


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
    acts: list[str] = field(default_factory=list)
    """What was done to the inputs at rest, and the lab went on."""
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
        lines += [f"  went on after {each}" for each in self.acts]
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
        async with stage(plan.folder, plan.seed, note) as running:
            await Lab(plan, running, note).run(report)
    except Exception as error:
        raise ChaosFailed(
            f"SEED={plan.seed} (evidence in {plan.folder}): {error!r}\n{report.text()}"
        ) from error
    return report


class Lab:
    """A stage with users, a keeper, a nemesis and a judge."""

    def __init__(self, plan: Plan, stage: Stage, note: Callable[[str], None]) -> None:
        self._plan = plan
        self._note = note
        self._stage = stage
        self._marks = plan.folder / "marks"
        self._stop = asyncio.Event()
        targets = Targets(
            kafka=stage.kafka,
            proxy=stage.proxy,
            roles=stage.roles,
            disk=stage.disk,
            clocks={"worker": plan.folder / CLOCKS[0], "API": plan.folder / CLOCKS[1]},
            twins=plan.folder / "twins",
            in_step=lambda: in_step(stage.kafka.bootstrap, [spec.name for spec in SPECS], BROKERS),
        )
        self._nemesis = Nemesis(targets, plan.seed, note)

    async def run(self, report: Report) -> None:
        """Serve, break, mend, settle, judge."""
        watch = evidence.Watch(self._marks)
        history = report.history
        clients = {
            name: Client(name, token, self._stage.servers, history, self._plan.seed)
            for name, token in self._stage.tokens.items()
        }
        keepers = [asyncio.create_task(role.keep()) for role in self._stage.roles]
        keepers.append(asyncio.create_task(watch.run()))
        try:
            await self._prepare(clients["admin"])
            keepers.append(asyncio.create_task(self._keep_benches(clients["admin"])))
            users = self._users(clients)
            await self._break(users)
            await self._nemesis.heal()
            self._note("all is mended")
            mended_s = time.monotonic()
            await self._settle(users, history)
            report.settled_s = time.monotonic() - mended_s
            dice = random.Random(f"acts/{self._plan.seed}")
            kafka, note = self._stage.kafka, self._note
            name = await remake_inputs(kafka.bootstrap, dice, note)
            await self._go_on(clients, history)
            report.acts.append(f"{name} was made anew")
            cut = await shorten_inputs(kafka, self._plan.folder / "kafka", dice, note)
            await self._go_on(clients, history)
            report.acts.append(f"all copies of {cut} were cut off")
            report.judged = await self._judge(history, watch)
        finally:
            self._tell(report)
            for task in keepers:
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for client in clients.values():
                await client.close()

    def _users(self, clients: Mapping[str, Client]) -> "list[asyncio.Task[None]]":
        plan = self._plan
        return [
            asyncio.create_task(
                User(client, pools=POOLS, marks=self._marks, stop=self._stop, seed=plan.seed).work()
            )
            for name, client in clients.items()
            if name != "admin"
        ]

    async def _go_on(self, clients: Mapping[str, Client], history: History) -> None:
        """Serve users once more, until nothing is undecided."""
        self._stop.clear()
        users = self._users(clients)
        await asyncio.sleep(AFTER_S)
        self._stop.set()
        await self._settle(users, history)

    def _tell(self, report: Report) -> None:
        report.faults = self._nemesis.counts
        report.skipped = self._nemesis.skipped
        report.requests = {
            f"{action.value} of {api}": n for (action, api), n in self._stage.proxy.counts.items()
        }
        report.ended_by_itself = {
            role.name: role.ended_by_itself for role in self._stage.roles if role.ended_by_itself
        }

    async def _prepare(self, admin: Client) -> None:
        for pool in POOLS:
            await admin.ask("PUT", f"/v1/pools/{pool}/benches", {"benches": benches()})
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
        async with KafkaLog(self._stage.kafka.bootstrap, client_id="judge") as log:
            while True:
                left = ["the log does not answer"]
                with suppress(LogUnavailable):
                    left = what_is_left(await evidence.journals(log, TOPICS), history)
                if not left:
                    return
                if time.monotonic() > end_s:
                    raise ChaosFailed(f"not settled in {SETTLE_S_MAX:.0f} s: {left[:20]}")
                await asyncio.sleep(1.0)

    async def _judge(self, history: History, watch: evidence.Watch) -> Judged:
        folder = self._plan.folder
        self._note(await fsck(self._stage.kafka.bootstrap, TOPICS.prefix, self._stage.roles))
        for task_of in self._stage.roles:
            await task_of.stop()
        async with KafkaLog(self._stage.kafka.bootstrap, client_id="judge") as log:
            return await judge(
                log,
                TOPICS,
                history=history,
                marks=self._marks,
                artifacts=folder / "artifacts",
                databases={f"api-{n}": folder / f"api-{n}" / "db.sqlite" for n in (1, 2)},
                sightings=[*watch.seen.values(), *evidence.look(self._marks)],
            )
