"""What a node is told: its place, server.properties, log4j2; never listens beyond the loopback."""

import base64
import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

host = "127.0.0.1"
message_bytes_max = 10 * 1024 * 1024
internal_partitions = 4
state_format = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One broker that is a controller too; numbers start at 1."""

    number: int
    port: int
    controller_port: int

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
        return json.dumps({"format": state_format, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Raises ValueError when the text is not one of ours."""
        try:
            document = json.loads(text)
            if document["format"] != state_format:
                raise ValueError(f"format {document['format']!r}, this version knows {state_format}")
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


def server_settings(layout: Layout, node: Node, data: Path) -> dict[str, str | int | bool]:
    """All settings of one node; `data` is where its log lies."""
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
    return settings | _topic_settings(len(layout.nodes)) | _small_machine() | _failover(layout)


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
        "message.max.bytes": message_bytes_max,
        "replica.fetch.max.bytes": message_bytes_max,
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


def _failover(layout: Layout) -> dict[str, str | int | bool]:
    settings: dict[str, str | int | bool] = {
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 2_000,
    }
    if len(layout.nodes) > 1:
        # One node keeps the patient defaults: there is nobody to fail over to.
        settings |= {
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 4_000,
            "replica.lag.time.max.ms": 5_000,
        }
    return settings


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
