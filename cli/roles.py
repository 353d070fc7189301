"""Wires each role by hand from its parts. Holds no logic of its own."""

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
import uuid_utils
from opentelemetry import metrics

from adapters.contract import Allowed
from adapters.registry import Registry
from api.auth.token_file import TokenFile
from api.deps import Deps, Settings
from cli.folders import private_file, private_folder
from cli.health import Condition, health_app, serving
from cli.process import Role, RoleFailed, now, until
from cli.topic_guard import TopicGuard
from cli.version import version
from events.append_time import clock_fault
from events.kafka.admin import check_topics, cluster_id, wait_for_broker
from events.kafka.log import KafkaLog
from events.secrets import is_secret
from events.topics import Topics
from processors.artifacts.files import FileStore
from processors.runtime.log_time import Clock
from processors.runtime.service import Scheduler
from processors.worker.agent import Worker
from processors.worker.discovery import pools
from processors.worker.pool_workers import PoolWorkers
from processors.worker.settings import WorkerSettings
from projections.read_model import ReadModel
from projections.runtime import Projector
from projections.store import Store

BROKER_WAIT_S = 60.0
WORKER_THREADS_MAX = 256
"""Threads are made as they are needed. With the few that Python has by the number of processors, a
test whose report takes long to read kept others from being torn down, and the worker from looking
at its own folder."""

logger = structlog.get_logger()


def new_id() -> str:
    """Return a fresh UUIDv7 as text."""
    return str(uuid_utils.uuid7())


async def _has_safe_log(stop: asyncio.Event, kafka: str, topics: Topics) -> bool:
    """Wait for a broker whose topics lose nothing; return False if `stop` comes first.

    Raises `TopicRefused`.
    """

    async def wait() -> None:
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        await check_topics(kafka, topics)

    await until(stop, wait())
    return not stop.is_set()


async def _beside(work: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, None]) -> None:
    """Do all of it until `work` ends, or one of them fails."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in others]
        try:
            await work
        finally:
            for task in tasks:
                task.cancel()


def scheduler_role(
    *, kafka: str, prefix: str, host: str, health_port: int, snapshot_every: int
) -> Role:
    """Return the role that makes facts."""

    async def role(stop: asyncio.Event) -> None:
        if not await _has_safe_log(stop, kafka, Topics(prefix)):
            return
        clock = Clock(now=now, monotonic_s=time.monotonic)
        async with KafkaLog(kafka, client_id="teo-scheduler") as log:
            meter = metrics.get_meter("teo.scheduler")
            scheduler = Scheduler(log, Topics(prefix), clock, meter, snapshot_every=snapshot_every)

            guard = TopicGuard(kafka, Topics(prefix), meter)

            async def state() -> object:
                return {"partitions": [asdict(each) for each in await scheduler.states()]}

            def condition() -> Condition:
                parts = scheduler.standings()
                is_broken = any(each["state"] == "broken" for each in parts.values())
                off = clock_fault(clock.wall.ahead_s or 0.0)
                return Condition(parts=parts, is_broken=is_broken, fault=guard.fault(), clock=off)

            app = health_app(lambda: scheduler.is_ready, state, condition)
            async with serving(app, host=host, port=health_port):
                await until(stop, _beside(scheduler.run(), guard.run()))

    return role


def watcher_role(*, kafka: str, prefix: str, host: str, health_port: int) -> Role:
    """Return the role that takes sick benches out of placement."""
    from processors.watchers.bench_health.service import BenchHealthWatcher

    async def watch() -> None:
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        async with KafkaLog(kafka, client_id="teo-watcher") as log:
            topics = Topics(prefix)
            for topic in (topics.events, topics.commands):
                await log.partitions(topic)  # Faust waits for ever for one that is missing.
            meter = metrics.get_meter("teo.watcher")
            watcher = BenchHealthWatcher(log, topics, kafka, meter)
            app = health_app(lambda: watcher.is_ready)
            async with serving(app, host=host, port=health_port):
                await watcher.run()

    async def role(stop: asyncio.Event) -> None:
        await until(stop, watch())

    return role


class SystemClock:
    """The machine's clocks, as the worker asks for them."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC."""
        return now()

    def monotonic(self) -> float:
        """Return the running loop's time, seconds."""
        return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRole:
    """What a worker process is set up with. `pools` empty: every pool there is."""

    worker: str
    pools: tuple[str, ...]
    benches: tuple[str, ...]
    slots: int
    state_dir: Path
    artifacts: Path
    kafka: str
    prefix: str
    host: str
    health_port: int
    drain_s: float
    forget_fences: bool = False
    allow_env: tuple[str, ...] = ()
    allow_dirs: tuple[Path, ...] = ()
    deny_dirs: tuple[Path, ...] = ()

    def allowed(self) -> Allowed:
        """Return what benches may reach of this machine; never what is the lab's own."""
        secret = (self.state_dir, self.artifacts, *self.deny_dirs)
        return Allowed(env=self.allow_env, folders=self.allow_dirs, secret_folders=secret)

    def settings(self, pool: str, *, is_first: bool) -> WorkerSettings:
        """Return the settings of the worker of one pool; its id is unique among them."""
        worker = self.worker if self.pools == (pool,) else f"{self.worker}-{pool}"
        return WorkerSettings(
            worker=worker,
            pool=pool,
            state_dir=self.state_dir / worker,
            version=version(),
            benches=self.benches,
            slots=self.slots,
            drain_s=self.drain_s,
            host=f"{socket.gethostname()} (pid {os.getpid()})",
            forget_fences=self.forget_fences and is_first,
            secrets=tuple(value for name, value in os.environ.items() if is_secret(name)),
        )


def worker_role(role: WorkerRole) -> Role:
    """Return the role that runs attempts: one worker for each pool it serves."""

    async def serve(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().set_default_executor(
            ThreadPoolExecutor(WORKER_THREADS_MAX, thread_name_prefix="worker")
        )
        topics = Topics(role.prefix)
        private_folder(role.state_dir)
        private_folder(role.artifacts)
        if not await _has_safe_log(stop, role.kafka, topics):
            return
        async with KafkaLog(role.kafka, client_id=f"teo-worker-{role.worker}") as log:

            def make(pool: str, is_first: bool) -> Worker:
                settings = role.settings(pool, is_first=is_first)
                adapters, broken = Registry(
                    settings.state_dir / "adapters", allowed=role.allowed()
                ).usable()
                for name, error in broken.items():
                    logger.error("worker.adapter_broken", adapter=name, error=str(error))
                logger.info("worker.serves", pool=pool, adapters=sorted(adapters))
                return Worker(
                    log,
                    topics,
                    settings,
                    adapters,
                    FileStore(role.artifacts),
                    clock=SystemClock(),
                    new_id=new_id,
                )

            workers = PoolWorkers(make, may_grow=not role.pools)

            def condition() -> Condition:
                log_now = log.time.now()
                off = "" if log_now is None else clock_fault((now() - log_now).total_seconds())
                return Condition(faults=workers.faults(), clock=off)

            app = health_app(lambda: workers.is_ready, condition=condition)
            async with (
                serving(app, host=role.host, port=role.health_port),
                asyncio.TaskGroup() as group,
            ):

                async def discover() -> None:
                    async for pool in pools(log, topics):
                        group.create_task(workers.serve(pool))

                for pool in role.pools:
                    group.create_task(workers.serve(pool))
                await until(stop, workers.all_left.wait() if role.pools else discover())
                workers.drain()

    return serve


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRole:
    """What an API process is set up with."""

    host: str
    port: int
    tokens: Path
    database: Path
    artifacts: Path
    kafka: str
    prefix: str


def api_role(role: ApiRole) -> Role:
    """Return the role that serves users: commands in, read models out."""
    from api.app import create_app

    async def serve(stop: asyncio.Event) -> None:
        topics = Topics(role.prefix)
        if not await _has_safe_log(stop, role.kafka, topics):
            return
        role.database.parent.mkdir(parents=True, exist_ok=True)
        private_file(role.database)
        private_folder(role.artifacts)
        cluster = await cluster_id(role.kafka)
        with Store(role.database) as store:
            store.belong_to(cluster, topics.events)
            async with KafkaLog(role.kafka, client_id="teo-api") as log:
                projector = Projector(log, topics, store)
                guard = TopicGuard(role.kafka, topics, metrics.get_meter("teo.api"))
                deps = Deps(
                    log=log,
                    topics=topics,
                    projector=projector,
                    reads=ReadModel(projector),
                    feed=projector.feed,
                    artifacts=FileStore(role.artifacts),
                    authenticator=TokenFile(role.tokens),
                    settings=Settings(version=version()),
                    topics_fault=guard.fault,
                    on_fatal=stop.set,
                )
                app = create_app(deps)
                async with serving(app, host=role.host, port=role.port):
                    await until(stop, guard.run())
                    deps.stopping.set()
                if app.state.service.failure is not None:
                    raise RoleFailed(app.state.service.failure)

    return serve
