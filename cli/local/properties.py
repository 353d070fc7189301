"""How a node is set up: its ports, its settings; must never listen abroad."""

import base64
import json
import secrets
import shutil
import socket
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cli.local import PortBusy
from cli.problems import BadUsage
from events.durable import write_whole

host = "127.0.0.1"
internal_partitions = 4
data_folder = "data"
"""Of a node's own folder: the only thing in it that must be kept."""
state_format = 1
port_tries = 200
default_port = 8642
"""Of the API."""
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


class OtherFormat(ValueError):
    """Raised when a description of a cluster is whole, but of a version that is not known."""


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
                raise OtherFormat(
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


def render(settings: dict[str, str | int | bool]) -> str:
    """The text of a .properties file: Java reads one as Latin-1, so all else is escaped."""
    return "".join(
        f"{key}={_escaped(str(value).lower() if isinstance(value, bool) else str(value))}\n"
        for key, value in settings.items()
    )


def _escaped(value: str) -> str:
    """Write a value as Java reads it back; what is no ASCII as units of UTF-16."""
    return "".join(_unit(each) for each in value)


def _unit(character: str) -> str:
    if "!" <= character <= "~" and character != "\\":
        return character
    if character in " \\":
        return f"\\{character}"
    code = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[start : start + 4]}" for start in range(0, len(code), 4))


def server_settings(
    layout: Layout,
    node: Node,
    *,
    advertised_port: int | None = None,
    bytes_max: int | None = None,
) -> dict[str, str | int | bool]:
    """All settings of one node. Its log lies in `data`, of the folder that the node runs in:

    Kafka takes `log.dirs` for a list, so a comma in a whole path would make two of it.

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
        "log.dirs": data_folder,
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
        if port is None or port in taken or not is_free(port):
            port = free_port(taken)
        taken.add(port)
        return port

    placed = []
    for number in range(1, nodes + 1):
        before = known.nodes[number - 1] if known else None
        if first_port is None:
            port = keep_or_choose(before.port if before else None)
        else:
            port = first_port + number - 1
            if not is_free(port):
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


def free_port(taken: Collection[int] = ()) -> int:
    """A port that is free now, is not in `taken`, and that no client gets meanwhile by chance.

    The system's own choice (port 0) is one that it gives to the next client as well: on a busy
    machine it may be taken before whoever it was chosen for listens there.
    """
    for _ in range(port_tries):
        port = secrets.choice(own_ports)
        if port not in taken and is_free(port):
            return port
    raise PortBusy(
        f"No free port of {host} found from {own_ports.start} to {own_ports.stop - 1}"
        f" in {port_tries} tries. Stop what listens there, or name a port."
    )


def port_of(asked: int | None) -> int:
    """The port of the API. Raises `BadUsage` if the one that was asked for cannot be had."""
    if asked is None:
        return free_port() if why_not_free(default_port) else default_port
    if asked == 0:
        return free_port()
    if why := why_not_free(asked):
        raise BadUsage(f"port {asked} cannot be had: {why}", next_step="choose another --port")
    return asked


def is_free(port: int) -> bool:
    return not why_not_free(port)


def why_not_free(port: int) -> str:
    """Why nothing of ours can listen on a port of the loopback; empty if it can."""
    with socket.socket() as probe:
        # As the JVM does: a port in TIME_WAIT is free, one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
        return ""


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
    settings = server_settings(layout, node, advertised_port=advertised_port, bytes_max=bytes_max)
    write_whole(home / "server.properties", render(settings))
    write_whole(home / "log4j2.properties", render(log4j_settings()))
