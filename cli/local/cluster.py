"""A real Kafka of one or three nodes on this machine; must never share a data folder or a port."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog

from cli.local import BrokerFailed
from cli.local.broker import JvmProcess, Metadata, ask_metadata
from cli.local.data_folder import (
    drop_torn,
    meta_file,
    remembered_layout,
    state_file,
    take_folder,
)
from cli.local.jars import Progress, Runtime, ready_runtime
from cli.local.properties import Layout, Node, host, with_free_ports, write_settings
from events import durable

log = structlog.get_logger()

node_counts = (1, 3)
poll_s = 0.05
probe_s = 1.0
format_s = 60.0
warm_start_s = 30.0
launch_tries = 3
log_tail_lines = 15
JVM_ENV = frozenset({"HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ"})
"""What a broker gets of our environment: it does not hide, and tests of its user can read it."""
JVM_LOCALE = {"LC_ALL": "C.UTF-8"}
"""A JVM takes the names of files for text of its locale; in that of a bare container, for ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Where and how to run; `port` is the first node's, the others follow it. None: any free.

    `advertised` names for each node the port of this machine that clients are sent to instead of
    the node's own: for a proxy in between. Brokers speak to each other directly all the same.
    `bytes_max` limits the records of topics without a limit of their own; None: Kafka's default.
    """

    data_dir: Path
    nodes: int = 1
    heap_mb: int = 384
    port: int | None = None
    cache_dir: Path | None = None
    start_s: float = 60.0
    stop_s: float = 15.0
    advertised: Mapping[int, int] | None = None
    bytes_max: int | None = None

    def __post_init__(self) -> None:
        if self.nodes not in node_counts:
            raise ValueError(f"A cluster has 1 or 3 nodes, not {self.nodes}.")
        if self.advertised is not None and set(self.advertised) != {*range(1, self.nodes + 1)}:
            raise ValueError(
                f"`advertised` names a port for each node from 1 to {self.nodes},"
                f" not for {sorted(self.advertised)}."
            )


class EmbeddedKafka:
    """Starts, faults and stops the cluster. Bound to no event loop: each call may use its own."""

    def __init__(self, config: ClusterConfig, *, on_progress: Progress = lambda _: None) -> None:
        self._config = config
        self._tell = on_progress
        self._folder = config.data_dir.absolute()
        self._processes: dict[int, JvmProcess] = {}
        self._paused: set[int] = set()
        self._layout: Layout | None = None
        self._runtime: Runtime | None = None
        self._lock: IO[str] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def bootstrap(self) -> str:
        """The addresses for clients, `host:port,…`: the advertised ones, if there are any."""
        advertised = self._config.advertised
        if advertised is None:
            return self._running_layout.bootstrap
        return ",".join(f"{host}:{advertised[number]}" for number in sorted(advertised))

    @property
    def ports(self) -> Mapping[int, int]:
        """The port each node itself listens on: where a proxy passes its clients on to."""
        return {node.number: node.port for node in self._running_layout.nodes}

    @property
    def cluster_id(self) -> str:
        return self._running_layout.cluster_id

    @property
    def _running_layout(self) -> Layout:
        assert self._layout is not None, "the embedded Kafka is not started"
        return self._layout

    async def start(self) -> None:
        """Start all nodes and return when each of them sees them all; else nothing is left."""
        assert self._lock is None, "the embedded Kafka is started already"
        self._runtime = await self._get_runtime()
        try:
            self._lock = await take_folder(self._folder, self._config.stop_s + probe_s)
            known = remembered_layout(self._folder, self._config.nodes, self._runtime.version)
            await self._launch(known)
        except BaseException:
            self._abandon()
            raise
        log.info("embedded_kafka.started", bootstrap=self.bootstrap, nodes=self._config.nodes)

    async def stop(self) -> None:
        """Stop all nodes cleanly; kills what does not end within `stop_s`. Repeats do nothing."""
        if self._lock is None:
            return
        try:
            if self._processes:
                self._tell("stopping Kafka")
            await self._end(tuple(self._processes))
            await self._keep_warm_start()
        finally:
            self._abandon()
        log.info("embedded_kafka.stopped")

    def destroy(self) -> None:
        """Kill all nodes at once and let go of the folder: for data that nobody needs again."""
        self._abandon()

    def pid(self, node: int) -> int:
        """The process id of a running node's JVM."""
        pid = self._processes[node].pid
        assert pid is not None
        return pid

    def is_alive(self, node: int) -> bool:
        return node in self._processes and self._processes[node].is_alive

    def kill(self, node: int) -> None:
        """SIGKILL one node; returns when it is gone."""
        self._paused.discard(node)
        self._processes.pop(node).destroy()

    def pause(self, node: int) -> None:
        """SIGSTOP one node: it keeps its connections and answers nothing."""
        self._processes[node].signal(signal.SIGSTOP)
        self._paused.add(node)

    def resume(self, node: int) -> None:
        """SIGCONT one node."""
        self._processes[node].signal(signal.SIGCONT)
        self._paused.discard(node)

    async def restart(self, node: int) -> None:
        """Stop one node if it runs, start it, and return when all running nodes see it."""
        if node in self._processes:
            await self._end((node,))
        self._spawn(next(each for each in self._running_layout.nodes if each.number == node))
        await self._until_seen({node})

    async def heal(self) -> None:
        """Resume and restart what was paused or killed: for tests that share a cluster."""
        for each in self._running_layout.nodes:
            if self.is_alive(each.number):
                self.resume(each.number)
            else:
                self._processes.pop(each.number, None)
                self._spawn(each)
        await self._until_seen({each.number for each in self._running_layout.nodes})

    async def _get_runtime(self) -> Runtime:
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(self._tell, text)

        try:
            return await asyncio.to_thread(
                ready_runtime,
                cache_dir=self._config.cache_dir,
                on_progress=tell,
                cancelled=cancelled,
            )
        finally:
            cancelled.set()

    async def _launch(self, known: Layout | None) -> None:
        """Write the settings, format what is new, start; a port lost in between is replaced."""
        assert self._runtime is not None
        for attempt in range(launch_tries):
            layout = with_free_ports(
                known,
                nodes=self._config.nodes,
                first_port=self._config.port,
                version=self._runtime.version,
                has_internal=self._config.advertised is not None,
            )
            self._layout = layout
            durable.write_whole(self._folder / state_file, layout.to_json())
            for node in layout.nodes:
                port = (self._config.advertised or {}).get(node.number)
                bytes_max = self._config.bytes_max
                write_settings(
                    self._folder, layout, node, advertised_port=port, bytes_max=bytes_max
                )
                drop_torn(self._folder, node)
            count = f"{len(layout.nodes)} node{'s' if len(layout.nodes) > 1 else ''}"
            self._tell(f"starting Apache Kafka {layout.kafka} ({count})")
            try:
                await self._format_new_nodes(layout)
                for node in layout.nodes:
                    self._spawn(node)
                await self._until_seen({node.number for node in layout.nodes})
            except BrokerFailed:
                is_port = self._config.port is None and self._is_port_taken(layout)
                if not is_port or attempt == launch_tries - 1:
                    raise
                self._destroy_all()
                known = layout
            else:
                return

    def _is_port_taken(self, layout: Layout) -> bool:
        """Return whether a node found one of its ports taken: what the end of its log may hide."""
        logs = [self._folder / node.folder_name / "broker.log" for node in layout.nodes]
        texts = [log.read_text("utf-8", "replace") for log in logs if log.exists()]
        return any("Address already in use" in text for text in texts)

    async def _format_new_nodes(self, layout: Layout) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for node in layout.nodes:
                    if not meta_file(self._folder, node).exists():
                        group.create_task(self._format(layout, node))
        except* BrokerFailed as failures:
            raise failures.exceptions[0] from None

    async def _format(self, layout: Layout, node: Node) -> None:
        arguments = [
            *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
            *("-t", layout.cluster_id, "-c", "server.properties"),
        ]
        await self._run_java(node, [*self._warm_flags(), *arguments], "format.log", format_s)

    async def _run_java(
        self, node: Node, arguments: list[str], log_name: str, limit_s: float
    ) -> None:
        process = self._start_java(node, arguments, log_name)
        try:
            if not await _has_ended(process, limit_s):
                raise _failed(f"Node {node.number}: no end after {limit_s:.0f} s", process.log)
        finally:
            process.destroy()
        if process.exit_code != 0:
            raise _failed(f"Node {node.number}: exit code {process.exit_code}", process.log)

    def _spawn(self, node: Node) -> None:
        home = self._folder / node.folder_name
        flags = self._warm_flags()
        if not flags and node.number == 1:
            # This run teaches the JVM what a broker loads; see `_keep_warm_start`.
            flags = ["-XX:AOTMode=record", f"-XX:AOTConfiguration={home / 'tmp' / 'warm.conf'}"]
        arguments = [*flags, "kafka.Kafka", "server.properties"]
        self._processes[node.number] = self._start_java(node, arguments, "broker.log")

    def _start_java(self, node: Node, arguments: list[str], log_name: str) -> JvmProcess:
        assert self._runtime is not None
        assert self._lock is not None
        home = self._folder / node.folder_name
        flags = [
            *(f"-Xmx{self._config.heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Xlog:all=error:stdout"),
            *("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"),
            *("-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true"),
            f"-Djava.io.tmpdir={home / 'tmp'}",
            "-Dlog4j2.configurationFile=log4j2.properties",
            *("-cp", self._runtime.class_path),
        ]
        inherited = {name: value for name, value in os.environ.items() if name in JVM_ENV}
        try:
            return JvmProcess(
                [str(self._runtime.java), *flags, *arguments],
                log=home / log_name,
                environ=inherited | JVM_LOCALE,
                grace_s=self._config.stop_s,
                hold=self._lock.fileno(),
                home=home,
            )
        except OSError as error:
            raise _failed(f"Node {node.number}: {error}", home / log_name) from error

    def _warm_flags(self) -> list[str]:
        assert self._runtime is not None
        warm_start = self._runtime.warm_start
        return [f"-XX:AOTCache={warm_start}"] if warm_start.exists() else []

    async def _keep_warm_start(self) -> None:
        """After the first clean stop: keep what the JVM learnt; later starts take a third."""
        assert self._runtime is not None
        node, warm_start = self._running_layout.nodes[0], self._runtime.warm_start
        learnt = self._folder / node.folder_name / "tmp" / "warm.conf"
        if warm_start.exists() or not learnt.exists():
            return
        self._tell("keeping what makes the next start faster, once")
        made = warm_start.with_name(f"{warm_start.name}.{os.getpid()}")
        flags = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={learnt}", f"-XX:AOTCache={made}"]
        try:
            await self._run_java(node, flags, "warm-start.log", warm_start_s)
            durable.replace(made, warm_start)
        except (BrokerFailed, OSError) as error:
            log.warning("embedded_kafka.no_warm_start", error=str(error))
        finally:
            made.unlink(missing_ok=True)
            learnt.unlink(missing_ok=True)

    async def _until_seen(self, numbers: set[int]) -> None:
        """Return when every running node (a paused one is not) knows these and a controller."""
        deadline = time.monotonic() + self._config.start_s
        while True:
            for number, process in self._processes.items():
                if not process.is_alive:
                    code = process.exit_code
                    raise _failed(f"Node {number} ended with exit code {code}", process.log)
            answers = await asyncio.to_thread(self._ask_all)
            if all(
                answer is not None
                and answer.cluster_id == self._running_layout.cluster_id
                and numbers <= answer.brokers
                and answer.controller > 0
                for answer in answers.values()
            ):
                return
            if time.monotonic() > deadline:
                number = next((key for key, answer in answers.items() if not answer), min(numbers))
                limit = f"no full answer after {self._config.start_s:.0f} s"
                raise _failed(f"Node {number}: {limit}", self._processes[number].log)
            await asyncio.sleep(poll_s)

    def _ask_all(self) -> dict[int, Metadata | None]:
        return {
            node.number: ask_metadata(host, node.port, timeout_s=probe_s)
            for node in self._running_layout.nodes
            if node.number in self._processes.keys() - self._paused
        }

    async def _end(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            self._processes[number].ask_to_stop()
        for number in numbers:
            process = self._processes[number]
            # The supervisor kills the JVM after `stop_s`; the second bound is for the supervisor.
            has_ended = await _has_ended(process, self._config.stop_s + probe_s)
            if not has_ended or process.exit_code == 128 + signal.SIGKILL:
                log.warning("embedded_kafka.killed", node=number, after_s=self._config.stop_s)
            process.destroy()
            self._paused.discard(number)
            del self._processes[number]

    def _destroy_all(self) -> None:
        while self._processes:
            _, process = self._processes.popitem()
            process.destroy()

    def _abandon(self) -> None:
        self._destroy_all()
        self._paused.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


async def _has_ended(process: JvmProcess, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while True:
        if not process.is_alive:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_s)


def _failed(what: str, log_path: Path) -> BrokerFailed:
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(lines[-log_tail_lines:]) or "(its log is empty)"
    return BrokerFailed(f"{what}. The end of {log_path}:\n{tail}")
