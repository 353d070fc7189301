"""The topics: their names under a prefix, and how each is kept. Never talks to a broker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "journal", "snapshots", "tasks", "public"]
"""What a topic is for: what may be lost of it, and whether its key is the pool, follows from it."""
POOL_KEYED: tuple[Role, ...] = ("input", "journal", "snapshots")
Durability = Literal["disk", "memory"]
"""Where a fact is when it is acknowledged: on the broker's disk, or in its memory for some time."""
FLUSH_KEY = "flush.messages"
"""After so many records of a partition they are written to the disk; by default Kafka never does:
the system does within half a minute or so."""
PARTITIONS_DEFAULT = 8
DAY_MS = 24 * 3600 * 1000
INPUT_BYTES_MAX = 2 * 1024 * 1024
"""What topics of inputs take at most: twice what the API and workers put into one record."""
OUTPUT_BYTES_MAX = 2 * INPUT_BYTES_MAX
"""What topics that schedulers write to take at most.

An input fits in whole with what is said of it, and so do the two biggest things that meet in one
record: a run and a bench, each bounded where it is accepted (`processors/scheduler`).
"""
RECORD_BYTES_KEY = "max.message.bytes"
"""Set for each topic, because brokers take about 1 MB unless told otherwise."""

SNAPSHOT_COMPACTION = {
    "segment_ms": str(10 * 60 * 1000),
    "min_cleanable_dirty_ratio": "0.1",
    "max_compaction_lag_ms": str(3600 * 1000),
}
"""Only the newest snapshot is read: older ones go within the hour."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics of one environment."""

    prefix: str = "teo"

    @property
    def commands(self) -> str:
        """What users ask; key: pool."""
        return f"{self.prefix}.commands"

    @property
    def reports(self) -> str:
        """What workers say; key: pool."""
        return f"{self.prefix}.reports"

    @property
    def inputs(self) -> tuple[str, str]:
        """What partitions are decided from."""
        return self.commands, self.reports

    @property
    def events(self) -> str:
        """The journal; key: pool."""
        return f"{self.prefix}.events"

    @property
    def tasks(self) -> str:
        """What workers are told; key: worker id."""
        return f"{self.prefix}.tasks"

    @property
    def results(self) -> str:
        """How executions ended; key: execution id."""
        return f"{self.prefix}.results"

    @property
    def logs(self) -> str:
        """Output of tests; key: execution id."""
        return f"{self.prefix}.logs"

    @property
    def dlq(self) -> str:
        """Inputs set aside, and executions out of retries; key: their own."""
        return f"{self.prefix}.dlq"

    def writer(self, partition: int) -> str:
        """The transactional id of whoever writes facts to a partition."""
        return f"{self.prefix}-{partition}"

    @property
    def scheduler_group(self) -> str:
        """The consumer group that shares the partitions out to schedulers."""
        return f"{self.prefix}-scheduler"

    @property
    def snapshots(self) -> str:
        """The scheduler's state now and then; key: partition, pool, part. Compacted."""
        return f"{self.prefix}.snapshots"


def prefix_flag(topic: str) -> str:
    """Return what names the environment of a topic to a verb; nothing for the default one."""
    prefix = topic.rpartition(".")[0]
    return "" if prefix == Topics().prefix else f" --topic-prefix {prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it must exist on the broker."""

    name: str
    partitions: int
    config: Mapping[str, str]
    role: Role = "public"
    has_facts: bool = True
    """False: what a power cut takes of it is made again, or was only output."""


def specs(
    topics: Topics, *, partitions: int = PARTITIONS_DEFAULT, min_insync: int
) -> tuple[TopicSpec, ...]:
    """Return every topic with the settings it must have.

    Records carry the broker's append time. Of commands and reports it tells the time of what is
    decided from them; elsewhere a broker would refuse the records of a sender whose clock is an
    hour ahead of its own. The journal is kept for ever. Logs come in small batches: any broker
    takes them.
    """
    inputs, outputs = str(INPUT_BYTES_MAX), str(OUTPUT_BYTES_MAX)
    compacted = {"cleanup_policy": "compact", **SNAPSHOT_COMPACTION}

    def spec(name: str, retention_ms: int, role: Role = "public", **extra: str) -> TopicSpec:
        config = {
            "retention.ms": str(retention_ms),
            "retention.bytes": "-1",
            "cleanup.policy": "delete",
            "min.insync.replicas": str(min_insync),
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": "LogAppendTime",
            **{key.replace("_", "."): value for key, value in extra.items()},
        }
        has_facts = name not in (topics.logs, topics.snapshots)
        return TopicSpec(
            name=name, partitions=partitions, config=config, role=role, has_facts=has_facts
        )

    return (
        spec(topics.commands, 7 * DAY_MS, "input", max_message_bytes=inputs),
        spec(topics.reports, 7 * DAY_MS, "input", max_message_bytes=inputs),
        spec(topics.events, -1, "journal", max_message_bytes=outputs),
        spec(topics.tasks, 7 * DAY_MS, "tasks", max_message_bytes=outputs),
        spec(topics.results, 90 * DAY_MS, max_message_bytes=outputs),
        spec(topics.logs, 7 * DAY_MS),
        spec(topics.dlq, 30 * DAY_MS, max_message_bytes=outputs),
        spec(topics.snapshots, -1, "snapshots", max_message_bytes=outputs, **compacted),
    )
