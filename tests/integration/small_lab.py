"""A whole system in one process on a real Kafka: scheduler, API, and as many workers as wanted."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.metrics import NoOpMeterProvider
from prometheus_client import CollectorRegistry

from adapters.contract import Adapter
from adapters.mock import MockAdapter
from api.app import create_app
from api.deps import Deps, Settings
from api.ending import end
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Partition, Record
from events.topics import Topics, specs
from processors.artifacts.files import FileStore
from processors.runtime.owner import Clock
from processors.runtime.service import Scheduler
from processors.worker.agent import Worker
from processors.worker.settings import WorkerSettings
from projections.read_model import ReadModel
from projections.runtime import Projector
from projections.store import Store
from tests.unit.api.lab import Tokens

WAIT_S = 60.0
OPERATOR = "t-olga"


def utc_now() -> datetime:
    return datetime.now(UTC)


class WallClock:
    """The machine's clocks, as a worker asks for them."""

    def now(self) -> datetime:
        return utc_now()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass
class SmallLab:
    """What a test plays with."""

    kafka: str
    topics: Topics
    log: KafkaLog
    http: httpx.AsyncClient
    folder: Path
    workers: dict[str, tuple[Worker, asyncio.Task[None]]] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str = OPERATOR, status: int = 200
    ) -> Any:
        """Send a request; return the JSON of an answer that has the status."""
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def items(self, path: str) -> list[dict[str, Any]]:
        """Return a whole list, over all its parts."""
        found: list[dict[str, Any]] = []
        mark = "&" if "?" in path else "?"
        cursor = ""
        while True:
            part = await self.call("GET", f"{path}{mark}limit=500{cursor}")
            found += part["items"]
            if part["next_cursor"] is None:
                return found
            cursor = f"&cursor={part['next_cursor']}"

    async def benches(self, *names: str, pool: str = "lab", **config: Any) -> None:
        """Register benches of the mock adapter."""
        benches = [
            {"name": name, "adapter": "mock", "labels": {"n": name}, "config": config}
            for name in names
        ]
        await self.call("PUT", f"/v1/pools/{pool}/benches", {"benches": benches})

    async def submit(self, *, pool: str = "lab", **more: Any) -> str:
        """Submit an execution; return its id."""
        body = {"pool": pool, "run": {"command": ["true"]}, **more}
        answer = await self.call("POST", "/v1/executions", body, status=201)
        return str(answer["id"])

    async def finished(self, execution_id: str) -> dict[str, Any]:
        """Return an execution once it is finished."""
        path = f"/v1/executions/{execution_id}"

        async def is_finished() -> Any:
            found = await self.call("GET", f"{path}?wait_s=20")
            return found if found["status"] == "finished" else None

        execution: dict[str, Any] = await self.until(is_finished, f"{execution_id} finished")
        return execution

    def worker(
        self,
        name: str,
        *,
        pool: str = "lab",
        adapters: Callable[[Path], Mapping[str, Adapter]] | None = None,
        **settings: Any,
    ) -> Worker:
        """Start a worker, with the mock adapter unless others are made of its state folder."""
        state = self.folder / "workers" / name
        worker = Worker(
            self.log,
            self.topics,
            WorkerSettings(worker=name, pool=pool, state_dir=state, version="1", **settings),
            adapters(state) if adapters else {"mock": MockAdapter(state / "mock")},
            FileStore(self.folder / "artifacts"),
            clock=WallClock(),
            new_id=lambda: str(uuid.uuid4()),
        )
        self.workers[name] = (worker, asyncio.ensure_future(worker.run()))
        return worker

    async def until(
        self, find: Callable[[], Awaitable[Any]], what: str, wait_s: float = WAIT_S
    ) -> Any:
        """Return what `find` finds, once that is something."""
        end_s = time.monotonic() + wait_s
        while not (found := await find()):
            assert time.monotonic() < end_s, f"not within {wait_s:.0f} s: {what}"
            await asyncio.sleep(0.1)
        return found

    async def records(self, topic: str) -> list[Record]:
        """Return all that is on a topic, partition by partition."""
        count = await self.log.partitions(topic)
        partitions = [Partition(topic, number) for number in range(count)]
        ends = await self.log.ends(partitions)
        reader = await self.log.open_reader(await self.log.begins(partitions))
        found: list[Record] = []
        try:
            for each in partitions:
                while await reader.position(each) < ends[each]:
                    found += await reader.poll(records_max=500, wait_s=0.5)
        finally:
            await reader.close()
        return found


Scene = Callable[[SmallLab], Coroutine[Any, Any, None]]


@asynccontextmanager
async def small_lab(
    kafka: str, prefix: str, folder: Path, *, partitions: int = 2, api_ahead_s: float = 0.0
) -> AsyncIterator[SmallLab]:
    """Start the system; stop all of it at the end. The API's clock is `api_ahead_s` ahead."""
    topics = Topics(prefix)
    await ensure_topics(kafka, specs(topics, partitions=partitions, min_insync=1), replication=1)
    meter = NoOpMeterProvider().get_meter("test")
    clock = Clock(now=utc_now, monotonic_s=time.monotonic)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(KafkaLog(kafka, client_id="small-lab"))
        own_log = await stack.enter_async_context(KafkaLog(kafka, client_id="small-lab-scheduler"))
        scheduler = asyncio.ensure_future(Scheduler(own_log, topics, clock, meter).run())
        stack.push_async_callback(end, [scheduler])
        projector = Projector(log, topics, stack.enter_context(Store(None)))
        deps = Deps(
            log=log,
            topics=topics,
            projector=projector,
            reads=ReadModel(projector),
            feed=projector.feed,
            artifacts=FileStore(folder / "artifacts"),
            authenticator=Tokens(),
            clock=lambda: utc_now() + timedelta(seconds=api_ahead_s),
            settings=Settings(command_wait_s=30.0),
            registry=CollectorRegistry(),
        )
        app = create_app(deps)
        await stack.enter_async_context(app.router.lifespan_context(app))
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test", timeout=120.0
        )
        await stack.enter_async_context(http)
        lab = SmallLab(kafka=kafka, topics=topics, log=log, http=http, folder=folder)

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await lab.until(is_ready, "the API is ready")
        try:
            yield lab
        finally:
            for worker, _ in lab.workers.values():
                worker.stop()
            tasks = [task for _, task in lab.workers.values()]
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)
