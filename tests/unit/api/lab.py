"""The API over a log in memory, with the real scheduler and projection, and workers by hand."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
from opentelemetry.metrics import NoOpMeterProvider
from starlette.applications import Starlette

from api.app import create_app
from api.auth.principal import Principal
from api.deps import Deps, Settings
from api.ending import end
from events.codec import encode
from events.log import Log, Outgoing
from events.logs import LogBatch
from events.message import Message
from events.reports import (
    AttemptEnded,
    Report,
    ResultsCollected,
    StepStarted,
    WorkerStarted,
)
from events.shared import Artifact, Case, ReportMeta, Totals
from events.topics import Topics
from processors.artifacts.files import FileStore, inline
from processors.runtime.log_time import Clock
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Owner
from projections.feed import ChangeFeed
from projections.read_model import ReadModel
from projections.runtime import Projector
from projections.store import Store
from tests.sim.memory_cluster import MemoryCluster
from tests.sim.memory_log import MemoryLog

TOPICS = Topics("teo")
WAIT_S = 5.0
ANN = "t-ann"
NO_TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)
TOKENS = {
    "t-ann": Principal(actor="ann", roles=("user",)),
    "t-bob": Principal(actor="bob", roles=("user",)),
    "t-eve": Principal(actor="eve", roles=("viewer",)),
    "t-olga": Principal(actor="olga", roles=("operator",)),
    "t-nobody": Principal(actor="nobody", roles=()),
}
BENCH = {"name": "bench-1", "labels": {"board": "rpi4"}, "adapter": "mock", "config": {"a": 1}}


class Tokens:
    """Tokens that are known from the start."""

    async def authenticate(self, token: str) -> Principal | None:
        return TOKENS.get(token)


@dataclass
class Lab:
    """What a test plays with."""

    cluster: MemoryCluster
    app: Starlette
    deps: Deps
    http: httpx.AsyncClient
    store: FileStore
    reports: int = 0
    epochs: dict[str, int] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = ANN,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> httpx.Response:
        """Send a request; check the status, if one is named."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        answer = await self.http.request(method, path, json=body, headers=sent)
        assert status is None or answer.status_code == status, answer.text
        return answer

    async def benches(self, *names: str, pool: str = "lab", **labels: str) -> None:
        """Register benches and a worker that serves them."""
        benches = [{**BENCH, "name": name, "labels": labels or BENCH["labels"]} for name in names]
        path = f"/v1/pools/{pool}/benches"
        await self.call("PUT", path, {"benches": benches}, token="t-olga", status=200)
        await self.worker(pool=pool)
        await self.until(lambda: self.all_idle(pool, names))

    async def all_idle(self, pool: str, names: tuple[str, ...]) -> bool:
        rows = [await self.deps.reads.bench(pool, name) for name in names]
        return all(row is not None and row.state != "offline" for row in rows)

    async def worker(self, *, pool: str = "lab", slots: int = 4) -> None:
        """Begin a life of the worker."""
        self.epochs[pool] = self.epochs.get(pool, 0) + 1
        started = WorkerStarted(adapters=("mock",), benches=(), slots=slots, version="1")
        await self.report(started, pool=pool)

    async def report(self, report: Report, *, pool: str = "lab", life: str = "") -> None:
        """Say something as the worker of `pool`."""
        self.reports += 1
        meta = ReportMeta(
            report_id=str(UUID(int=self.reports)),
            pool=pool,
            worker=f"worker-{pool}",
            epoch=self.epochs[pool],
            sent_at=self.cluster.now(),
            correlation_id="",
            traceparent="",
            life=life,
        )
        value = encode(Message(meta, report))
        record = Outgoing(topic=TOPICS.reports, key=pool.encode(), value=value)
        await self.deps.log.append([record])

    async def submit(self, **more: Any) -> dict[str, Any]:
        """Submit an execution and wait until it has a worker, if a bench is free."""
        body = {"run": {"command": ["true"]}, **more}
        answer: dict[str, Any] = (
            await self.call("POST", "/v1/executions", body, status=201)
        ).json()
        return answer

    async def started(self, execution_id: str) -> dict[str, Any]:
        """Play the first steps of the running attempt; return the execution."""
        path = f"/v1/executions/{execution_id}"
        execution = (await self.call("GET", f"{path}?wait_s=5&until=started", status=200)).json()
        attempt = execution["attempts"][-1]
        for step in ("provision", "run"):
            await self.report(
                StepStarted(
                    execution_id=execution_id,
                    attempt=attempt["number"],
                    fence=attempt["fence"],
                    step=step,
                ),
                pool=execution["pool"],
            )
        return execution

    async def lines(
        self,
        execution: Mapping[str, Any],
        first: int,
        lines: tuple[str, ...],
        *,
        attempt: int | None = None,
        fence: int | None = None,
        stderr: tuple[int, ...] = (),
        is_last: bool = False,
    ) -> None:
        """Ship lines of an attempt."""
        made = execution["attempts"][-1 if attempt is None else attempt - 1]
        batch = LogBatch(
            execution_id=execution["id"],
            attempt=made["number"],
            fence=made["fence"] if fence is None else fence,
            first_line=first,
            at=self.cluster.now(),
            lines=lines,
            stderr_lines=stderr,
            is_last=is_last,
        )
        key = execution["id"].encode()
        await self.deps.log.append([Outgoing(topic=TOPICS.logs, key=key, value=encode(batch))])

    async def kept(
        self, execution: Mapping[str, Any], path: str, kind: str, data: bytes
    ) -> Artifact:
        """Store a file."""
        place = (
            path if path.isalnum() or path in ("a.bin", "log.txt") else path.encode().hex()[-200:]
        )
        stored = await self.store.put(data, f"{execution['id']}/{kind}/{place}")
        return Artifact(
            path=path, kind=kind, size_bytes=len(data), sha256=stored.sha256, uri=stored.uri
        )

    async def ended(
        self,
        execution: Mapping[str, Any],
        *,
        verdict: str = "passed",
        cases: tuple[Case, ...] = (),
        artifacts: tuple[Artifact, ...] = (),
        is_retriable: bool = False,
        totals: Totals = NO_TOTALS,
        fault: str = "",
    ) -> None:
        """End the last attempt."""
        attempt = execution["attempts"][-1]
        ref = {
            "execution_id": execution["id"],
            "attempt": attempt["number"],
            "fence": attempt["fence"],
        }
        if cases:
            await self.report(ResultsCollected(**ref, cases=cases), pool=execution["pool"])
        await self.report(
            AttemptEnded(
                **ref,
                verdict=verdict,
                code=verdict if verdict == "passed" else "exit_code",
                reason="" if verdict == "passed" else "the command exited with 1",
                exit_code=0 if verdict == "passed" else 1,
                totals=totals,
                artifacts=artifacts,
                is_retriable=is_retriable,
                teardown_error="",
                fault=fault,
            ),
            pool=execution["pool"],
        )

    async def finished(self, execution_id: str) -> dict[str, Any]:
        """Return the execution once it is finished."""
        path = f"/v1/executions/{execution_id}?wait_s=5&until=finished"
        execution: dict[str, Any] = (await self.call("GET", path, status=200)).json()
        assert execution["status"] == "finished", execution
        return execution

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(WAIT_S):
            while not await is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def stream(
        self, path: str, *, token: str = ANN, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator["Stream"]:
        """Open an event stream, as a server would serve it."""
        stream = Stream()
        sent = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {**sent, **(headers or {})}.items()
            ],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        async with asyncio.TaskGroup() as group:
            task = group.create_task(stream.serve(self.app, scope))
            try:
                yield stream
            finally:
                stream.gone.set()
                await asyncio.wait({task}, timeout=WAIT_S)


class Stream:
    """An open answer, read event by event."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.status = 0
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._text = b""
        self.can_take = asyncio.Event()
        self.can_take.set()

    async def serve(self, app: Starlette, scope: dict[str, Any]) -> None:
        is_asked = False

        async def receive() -> dict[str, Any]:
            nonlocal is_asked
            if not is_asked:
                is_asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            await self.can_take.wait()
            self._chunks.put_nowait(message.get("body", b""))
            if not message.get("more_body", False):
                self._chunks.put_nowait(None)

        await app(scope, receive, send)
        self._chunks.put_nowait(None)

    async def block(self) -> str | None:
        """Return the next block; None at the end."""
        async with asyncio.timeout(WAIT_S):
            while b"\n\n" not in self._text:
                chunk = await self._chunks.get()
                if chunk is None:
                    return None
                self._text += chunk
        block, _, self._text = self._text.partition(b"\n\n")
        return block.decode()

    async def event(self) -> tuple[str, Any, str]:
        """Return the next event as (name, data, id); ("", None, "") at the end."""
        while True:
            block = await self.block()
            if block is None:
                return "", None, ""
            fields = dict(
                line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")
            )
            if "event" in fields:
                return fields["event"], orjson.loads(fields["data"]), fields.get("id", "")

    async def rest(self) -> AsyncGenerator[tuple[str, Any, str], None]:
        """Yield events up to the end."""
        while (event := await self.event())[0]:
            yield event


def in_lab(
    scene: Callable[[Lab], Coroutine[Any, Any, None]],
    folder: Path,
    *,
    settings: Settings | None = None,
    has_scheduler: bool = True,
    partitions: int = 2,
) -> None:
    """Play `scene`."""

    async def play() -> None:
        cluster = MemoryCluster(TOPICS, partitions=partitions)
        async with running(cluster, folder, settings=settings) as lab:
            if not has_scheduler:
                await scene(lab)
                return
            clock = Clock(now=cluster.now, monotonic_s=asyncio.get_running_loop().time)
            metrics = runtime_metrics(NoOpMeterProvider().get_meter("test"))
            # The owners themselves, without the group that shares them out: that takes time.
            log = MemoryLog(cluster, "scheduler")
            owners = [
                asyncio.ensure_future(Owner(log, TOPICS, number, clock, metrics).run())
                for number in range(partitions)
            ]
            try:
                await scene(lab)
            finally:
                await end(owners)

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await play()

    asyncio.run(bounded())


@asynccontextmanager
async def running(
    cluster: MemoryCluster,
    folder: Path,
    *,
    settings: Settings | None = None,
    log: Log | None = None,
    wall_ahead_s: float = 0.0,
) -> AsyncIterator[Lab]:
    """Run one API process over `cluster`, on a machine whose clock is that far ahead."""
    log = log or MemoryLog(cluster, "api")
    store = FileStore(folder / "artifacts", offload=inline)
    feed = ChangeFeed()
    with Store(None) as database:
        projector = Projector(log, TOPICS, database, feed=feed)
        deps = Deps(
            log=log,
            topics=TOPICS,
            projector=projector,
            reads=ReadModel(projector),
            feed=feed,
            artifacts=store,
            authenticator=Tokens(),
            clock=lambda: cluster.now() + timedelta(seconds=wall_ahead_s),
            settings=settings or Settings(),
        )
        app = create_app(deps)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            lab = Lab(cluster=cluster, app=app, deps=deps, http=http, store=store)

            async def is_ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await lab.until(is_ready)
            yield lab
