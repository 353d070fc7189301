"""What a data folder holds: lock, layout, ports, settings; must never be shared or listen abroad.

A folder belongs to one cluster for ever and to one process at a time; all listen on the loopback.
"""

import asyncio
import base64
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from cli.local import DataFolderRefused, PortBusy

host = "127.0.0.1"
internal_partitions = 4
state_format = 1
state_file, lock_file = "cluster.json", "lock"
lock_poll_s = 0.05
port_tries = 200
own_ports = range(20_000, 32_000)  # Below the ephemeral range, so that no client ever gets one.


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One broker that is a controller too; numbers start at 1."""

    number: int
    port: int
    controller_port: int
    internal_port: int | None = None
    """Where the other brokers reach it when clients are told another address than `port`."""

    @property
    def folder_name(self) -> str:
        return f"node-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The cluster as its data folder remembers it."""

    cluster_id: str
    kafka: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{host}:{node.port}" for node in self.nodes)

    def to_json(self) -> str:
        document = {"format": state_format, **asdict(self)}
        for node in document["nodes"]:
            if node["internal_port"] is None:
                del node["internal_port"]  # So that versions that do not know it read the rest.
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Raises ValueError when the text is not one of ours."""
        try:
            document = json.loads(text)
            if document["format"] != state_format:
                raise ValueError(
                    f"format {document['format']!r}, this version knows {state_format}"
                )
            return cls(
                cluster_id=str(document["cluster_id"]),
                kafka=str(document["kafka"]),
                nodes=tuple(Node(**node) for node in document["nodes"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a description of a cluster: {error!r}") from error


def new_cluster_id() -> str:
    """A random id in the form Kafka wants: 16 bytes as url-safe base64, not starting with `-`."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def parse_properties(text: str) -> dict[str, str]:
    """The `key=value` lines that Kafka writes into meta.properties."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def render(settings: dict[str, str | int | bool]) -> str:
    """The text of a .properties file; backslashes are escaped, as Java's reader wants it."""
    return "".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else str(value)}\n".replace(
            "\\", "\\\\"
        )
        for key, value in settings.items()
    )


def server_settings(
    layout: Layout,
    node: Node,
    data: Path,
    *,
    advertised_port: int | None = None,
    bytes_max: int | None = None,
) -> dict[str, str | int | bool]:
    """All settings of one node; `data` is where its log lies.

    Topics without a limit of their own take records of `bytes_max`; None: Kafka's default.

    Clients are sent to `advertised_port`, where something must pass them on to the node's own
    port; brokers then speak to each other on a listener that clients are never told of.
    """
    voters = ",".join(f"{each.number}@{host}:{each.controller_port}" for each in layout.nodes)
    broker = f"BROKER://{host}:{node.port}"
    settings: dict[str, str | int | bool] = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "controller.quorum.voters": voters,
        "listeners": f"{broker},CONTROLLER://{host}:{node.controller_port}",
        "advertised.listeners": broker,
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
    }
    if advertised_port is not None:
        internal = f"INTERNAL://{host}:{node.internal_port}"
        settings |= {
            "listeners": f"{broker},{internal},CONTROLLER://{host}:{node.controller_port}",
            "advertised.listeners": f"BROKER://{host}:{advertised_port},{internal}",
            "listener.security.protocol.map": (
                "BROKER:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "inter.broker.listener.name": "INTERNAL",
        }
    if bytes_max is not None:
        settings["message.max.bytes"] = bytes_max
    return settings | _topic_settings(len(layout.nodes)) | _small_machine() | _failover()


def _topic_settings(nodes: int) -> dict[str, str | int | bool]:
    copies = min(nodes, 3)
    copies_in_sync = max(1, copies - 1)
    return {
        "auto.create.topics.enable": False,
        "default.replication.factor": copies,
        "min.insync.replicas": copies_in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": internal_partitions,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": copies_in_sync,
        "transaction.state.log.num.partitions": internal_partitions,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": copies_in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        # An abandoned transaction hides what follows it until it is aborted: look every second.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    }


def _small_machine() -> dict[str, str | int | bool]:
    return {
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.segment.bytes": 256 * 1024 * 1024,
        "log.retention.check.interval.ms": 60_000,
        # The default takes 128 MB, a third of the heap, for keys that are at most thousands here.
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        "metric.reporters": "",
    }


def _failover() -> dict[str, str | int | bool]:
    return {
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 2_000,
        # A killed node may register again only when its former session is over: the default makes
        # even a single node wait 9 s.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3_000,
        "replica.lag.time.max.ms": 5_000,
        # A paused controller or leader keeps its connections: do not wait 30 s for its answer.
        "controller.socket.timeout.ms": 3_000,
        "replica.socket.timeout.ms": 3_000,
    }


def log4j_settings() -> dict[str, str | int | bool]:
    """Warnings and errors to the node's own log file, through its stdout."""
    return {
        "status": "error",
        "appender.out.type": "Console",
        "appender.out.name": "out",
        "appender.out.layout.type": "PatternLayout",
        "appender.out.layout.pattern": "%d{ISO8601} %p %c{1}: %m%n%throwable",
        "rootLogger.level": "warn",
        "rootLogger.appenderRef.out.ref": "out",
    }


async def take_folder(folder: Path, wait_s: float) -> IO[str]:
    """Lock the data folder. Brokers of a killed owner hold it too: those are waited for."""
    lock = _open_lock(folder)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                lock.seek(0)
                owner = lock.read().strip()
                if _is_running(owner) or time.monotonic() > deadline:
                    raise DataFolderRefused(
                        f"{folder} is in use by the process {owner or '(unknown)'}."
                        " Stop that one (teo down), or choose another data folder."
                    ) from error
            await asyncio.sleep(lock_poll_s)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    except BaseException:
        lock.close()
        raise
    return lock


def _open_lock(folder: Path) -> IO[str]:
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / lock_file).open("a+", encoding="ascii")


def _is_running(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataFolderRefused(f"{folder} is not a folder. Choose another data folder.")
    if not folder.exists() or (folder / state_file).exists():
        return
    if {each.name for each in folder.iterdir()} - {lock_file, f"{state_file}.new"}:
        raise DataFolderRefused(
            f"{folder} is not empty and has no {state_file}: it is not a Kafka data folder of teo."
            " Choose an empty or a new folder."
        )


def remembered_layout(folder: Path, nodes: int, version: str) -> Layout | None:
    """What the folder holds, when it fits what is asked for."""
    path = folder / state_file
    if not path.exists():
        return None
    advice = f"Choose another data folder, or remove {folder} with all its data."
    try:
        layout = Layout.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataFolderRefused(f"{path} cannot be read: {error}. {advice}") from error
    if len(layout.nodes) != nodes:
        raise DataFolderRefused(
            f"{folder} holds a cluster of {len(layout.nodes)} node(s), {nodes} asked for. {advice}"
        )
    if _numbers(layout.kafka) > _numbers(version):
        raise DataFolderRefused(
            f"{folder} was written by Kafka {layout.kafka}, this is {version}. {advice}"
        )
    for node in layout.nodes:
        meta = meta_file(folder, node)
        held = parse_properties(meta.read_text(encoding="utf-8")) if meta.exists() else {}
        found = (held.get("cluster.id", layout.cluster_id), held.get("node.id", str(node.number)))
        if found != (layout.cluster_id, str(node.number)):
            raise DataFolderRefused(
                f"{meta.parent} holds node {found[1]} of the cluster {found[0]},"
                f" not node {node.number} of {layout.cluster_id}. {advice}"
            )
    return layout


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def with_free_ports(
    known: Layout | None,
    *,
    nodes: int,
    first_port: int | None,
    version: str,
    has_internal: bool = False,
) -> Layout:
    """Keep the remembered ports that are still free; choose the others."""
    taken: set[int] = set()

    def keep_or_choose(port: int | None) -> int:
        if port is None or port in taken or not _is_free(port):
            port = _choose_port(taken)
        taken.add(port)
        return port

    placed = []
    for number in range(1, nodes + 1):
        before = known.nodes[number - 1] if known else None
        if first_port is None:
            port = keep_or_choose(before.port if before else None)
        else:
            port = first_port + number - 1
            if not _is_free(port):
                raise PortBusy(
                    f"Port {port} of {host} is taken, so Kafka cannot listen there."
                    " Stop what listens on it, or name another port."
                )
            taken.add(port)
        controller_port = keep_or_choose(before.controller_port if before else None)
        internal_port = (
            keep_or_choose(before.internal_port if before else None) if has_internal else None
        )
        placed.append(
            Node(
                number=number,
                port=port,
                controller_port=controller_port,
                internal_port=internal_port,
            )
        )
    if known:
        return replace(known, kafka=version, nodes=tuple(placed))
    return Layout(cluster_id=new_cluster_id(), kafka=version, nodes=tuple(placed))


def _choose_port(taken: set[int]) -> int:
    for _ in range(port_tries):
        port = secrets.choice(own_ports)
        if port not in taken and _is_free(port):
            return port
    raise PortBusy(
        f"No free port of {host} found from {own_ports.start} to {own_ports.stop - 1}"
        f" in {port_tries} tries. Stop what listens there, or name a port."
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the JVM does: a port in TIME_WAIT is free, one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def meta_file(folder: Path, node: Node) -> Path:
    return folder / node.folder_name / "data" / "meta.properties"


def write_settings(
    folder: Path,
    layout: Layout,
    node: Node,
    *,
    advertised_port: int | None = None,
    bytes_max: int | None = None,
) -> None:
    home = folder / node.folder_name
    shutil.rmtree(home / "tmp", ignore_errors=True)  # A killed JVM leaves unpacked libraries.
    (home / "tmp").mkdir(parents=True)
    settings = server_settings(
        layout, node, home / "data", advertised_port=advertised_port, bytes_max=bytes_max
    )
    write_whole(home / "server.properties", render(settings))
    write_whole(home / "log4j2.properties", render(log4j_settings()))


def write_whole(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
