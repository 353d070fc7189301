"""How safe the topics must be in which Kafka itself keeps transactions and groups. Pure.

They are not ours, and nobody creates them by hand: brokers make them at the first use, as their
own settings say. A broker that holds the only copy of a part stops, when it is lost, every owner
whose transactions are kept there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from events.topic_rules import TopicFound

TRANSACTIONS = "__transaction_state"
GROUPS = "__consumer_offsets"
COPIES_ENOUGH = 3
"""What Kafka makes unless told otherwise: more of ours ask for no more of them."""
MIN_INSYNC_KEY = "min.insync.replicas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Internal:
    """A topic of Kafka's own, and the settings of brokers that it is made by."""

    name: str
    keeps: str
    copies_key: str
    min_insync_key: str | None = None
    """None: a broker has no such setting for it, and what is lost is only read anew."""


INTERNALS = (
    Internal(
        name=TRANSACTIONS,
        keeps="transactions",
        copies_key="transaction.state.log.replication.factor",
        min_insync_key="transaction.state.log.min.isr",
    ),
    Internal(name=GROUPS, keeps="groups", copies_key="offsets.topic.replication.factor"),
)


def internal_faults(
    found: Mapping[str, TopicFound],
    brokers: Mapping[str, Mapping[str, str]],
    *,
    bootstrap: str,
    replication: int,
    min_insync: int,
) -> Iterator[str]:
    """Yield what is dangerous: of each topic that is there, else of how it would be made.

    `found` has those of the topics that are there, `brokers` the settings of each broker; what
    cannot be seen is no fault. `replication` and `min_insync` are those of our own topics.
    """
    copies = min(replication, COPIES_ENOUGH)
    in_sync = min(min_insync, max(1, copies - 1))
    for topic in INTERNALS:
        there = found.get(topic.name)
        if there is not None:
            yield from _of_topic(topic, there, bootstrap, copies, in_sync)
            continue
        for broker, config in sorted(brokers.items()):
            yield from _of_broker(topic, broker, config, copies, in_sync)


def _of_topic(
    topic: Internal, there: TopicFound, bootstrap: str, copies: int, in_sync: int
) -> Iterator[str]:
    if there.replicas_min < copies:
        yield (
            f"topic {topic.name}: it has {there.replicas_min} copies of a partition, ours have "
            f"{copies}: one broker lost stops everybody whose {topic.keeps} it keeps; whoever runs "
            f"the brokers at {bootstrap} must add copies of it: it is Kafka's own topic"
        )
    found = int(there.config.get(MIN_INSYNC_KEY, in_sync))
    if topic.min_insync_key is not None and found < in_sync:
        yield (
            f"topic {topic.name}: it has {MIN_INSYNC_KEY}={found}: the end of a transaction "
            f"acknowledged by fewer than {in_sync} brokers can be lost with one of them; "
            f"whoever runs the brokers at {bootstrap} must set {MIN_INSYNC_KEY}={in_sync} of it"
        )


def _of_broker(
    topic: Internal, broker: str, config: Mapping[str, str], copies: int, in_sync: int
) -> Iterator[str]:
    for key, wanted in ((topic.copies_key, copies), (topic.min_insync_key, in_sync)):
        if key is not None and int(config.get(key, wanted)) < wanted:
            yield (
                f"broker {broker}: it has {key}={config[key]}: it would make {topic.name}, which "
                f"is not there yet, less safe than our own topics; set {key}={wanted} in its "
                "server.properties and start it again, before anything uses the cluster"
            )
