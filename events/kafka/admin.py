"""Creates the topics, or refuses topics that would lose facts. Never deletes or changes any:
`mending.py` does, when an operator asks for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import collect_hosts
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from events.errors import LogUnavailable, TopicMissing, TopicRefused
from events.internal_rules import INTERNALS, internal_faults
from events.kafka.errors import mapped
from events.kafka.log import KafkaLog
from events.log import Partition
from events.topic_rules import TopicFound, faults, half_an_environment, lost_topics
from events.topics import POOL_KEYED, Topics, TopicSpec, specs

POLL_S = 0.1
REQUEST_MS = 15_000
APPEAR_TRIES = 100
TOPIC_EXISTS = 36
INVALID_REPLICATION = 38

log = structlog.get_logger()


async def wait_for_broker(bootstrap: str, *, wait_s: float) -> None:
    """Return once a broker answers. Raises `LogUnavailable` after `wait_s`."""
    end_s = asyncio.get_running_loop().time() + wait_s
    _check_address(bootstrap)
    while True:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2_000)
        try:
            await client.start()
        except (KafkaError, OSError) as error:
            if asyncio.get_running_loop().time() > end_s:
                raise LogUnavailable(
                    f"no Kafka answers at {bootstrap} ({error!r}); start one, or name another"
                ) from error
            await asyncio.sleep(POLL_S)
        else:
            return
        finally:
            await client.close()


def _check_address(bootstrap: str) -> None:
    """Refuse what names no broker. Raises `LogUnavailable`."""
    try:
        hosts = collect_hosts(bootstrap)
    except ValueError:
        hosts = []
    if not hosts or not all(host and 0 < port < 65_536 for host, port, _ in hosts):
        raise LogUnavailable(
            f"{bootstrap!r} is no address of a Kafka; write HOST:PORT, several joined by commas,"
            " with ports from 1 to 65535"
        )


async def cluster_id(bootstrap: str) -> str:
    """Return the id that the cluster got when it was made. Raises `LogUnavailable`."""
    async with opened_admin(bootstrap, "ask for the cluster's id") as client:
        described = await client.describe_cluster()
    found = described.get("cluster_id")
    if not found:
        raise LogUnavailable(f"Kafka at {bootstrap} does not tell its cluster id")
    return str(found)


async def ensure_topics(
    bootstrap: str,
    wanted: Sequence[TopicSpec],
    *,
    replication: int,
    make_missing: Sequence[str] = (),
) -> frozenset[str]:
    """Create the topics, check those that exist; return the new ones' names.

    They are created all or none: where some exist and hold records, others that are missing were
    lost with what they held, and are only made if `make_missing` names them.

    Raises `TopicRefused` if a topic has other partitions, fewer copies, or settings that lose
    facts, or if Kafka's own topics are less safe than these: it says all that is wrong, and what
    mends it.
    """
    async with opened_admin(bootstrap, "create topics") as client:
        names = [spec.name for spec in wanted]
        there = await found_topics(client, names)
        lost = lost_topics(wanted, there, make_missing)
        if lost and await _hold_records(bootstrap, there):
            raise TopicRefused(half_an_environment(wanted, there, lost, bootstrap=bootstrap))
        # Before any is made: one with another number of partitions would stay.
        _refuse(_faults_of(wanted, there, bootstrap, replication))
        made = await _create(client, wanted, replication)
        for _ in range(APPEAR_TRIES):
            found = await found_topics(client, names)
            if len(found) == len(names):
                break
            await asyncio.sleep(POLL_S)
        missing = sorted({*names} - found.keys())
        if missing:
            raise TopicMissing(f"topics {', '.join(missing)} cannot be seen; try `teo init` again")
        min_insync = min(int(spec.config["min.insync.replicas"]) for spec in wanted)
        own = await _internal_faults(client, bootstrap, replication, min_insync)
    _refuse([*_faults_of(wanted, found, bootstrap, replication), *own])
    return made


def _faults_of(
    wanted: Sequence[TopicSpec],
    found: Mapping[str, TopicFound],
    bootstrap: str,
    replication: int,
) -> Sequence[str]:
    return [
        f"topic {spec.name}: {fault}"
        for spec in wanted
        if spec.name in found
        for fault in faults(
            spec,
            found[spec.name],
            bootstrap=bootstrap,
            replication=replication,
            partitions=spec.partitions,
        )
    ]


async def shape_of(bootstrap: str, topics: Topics) -> tuple[int, int] | None:
    """Return how many partitions and copies an environment has; None: none of it is there.

    Of its topics that whose partitions are pools counts first, and the journal before all. Raises
    `LogUnavailable`.
    """
    ranks = {"journal": 0, "input": 1, "snapshots": 2}
    every = sorted(specs(topics, min_insync=1), key=lambda spec: ranks.get(spec.role, 3))
    async with opened_admin(bootstrap, "look for topics") as client:
        found = await found_topics(client, [spec.name for spec in every])
    there = [found[spec.name] for spec in every if spec.name in found]
    return (there[0].partitions, there[0].replicas_min) if there else None


async def check_topics(bootstrap: str, topics: Topics, *, are_all_due: bool = False) -> None:
    """Raise `TopicRefused` if the topics are such that a role would go wrong sooner or later.

    Topics that are not there yet are no danger: who needs them waits for them; unless they
    `are_all_due`, because the role has been running with them. Nor are settings
    that this process may not see. Kafka's own topics must be as safe as the journal is.
    """
    async with opened_admin(bootstrap, "check topics") as client:
        every = specs(topics, min_insync=1)
        found = await found_topics(client, [spec.name for spec in every])
        journal = found.get(topics.events)
        own: Sequence[str] = ()
        if journal is not None:
            min_insync = int(journal.config.get("min.insync.replicas", "1"))
            own = await _internal_faults(client, bootstrap, journal.replicas_min, min_insync)
    said = [
        f"topic {spec.name}: {fault}"
        for spec in every
        if spec.name in found
        for fault in faults(
            spec,
            found[spec.name],
            bootstrap=bootstrap,
            partitions=journal.partitions if journal and spec.role in POOL_KEYED else None,
        )
    ]
    if are_all_due:
        said += _gone(every, found, bootstrap)
    _refuse([*said, *own])


def _gone(
    every: Sequence[TopicSpec], found: Mapping[str, TopicFound], bootstrap: str
) -> Sequence[str]:
    lost = lost_topics(every, found or ("",), ())
    if lost and found:
        return [half_an_environment(every, found, lost, bootstrap=bootstrap)]
    return [f"topic {name} is gone, with all others of this environment" for name in lost]


async def _hold_records(bootstrap: str, there: Mapping[str, TopicFound]) -> bool:
    """Return True if anything was ever written to one of the topics."""
    partitions = [
        Partition(name, number) for name, each in there.items() for number in range(each.partitions)
    ]
    async with KafkaLog(bootstrap, client_id="teo-init") as asker:
        return any((await asker.ends(partitions)).values())


def _refuse(said: Sequence[str]) -> None:
    if said:
        raise TopicRefused("\n  ".join(["the topics would lose facts or order:", *said]))


@asynccontextmanager
async def opened_admin(bootstrap: str, what: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Return a client that changes and asks for topics. Raises errors of ours."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS)
    with mapped(f"{what} at {bootstrap}"):
        try:
            await client.start()
            yield client
        finally:
            await client.close()


async def _create(
    client: AIOKafkaAdminClient, wanted: Sequence[TopicSpec], replication: int
) -> frozenset[str]:
    new = [
        NewTopic(
            name=spec.name,
            num_partitions=spec.partitions,
            replication_factor=replication,
            topic_configs=dict(spec.config),
        )
        for spec in wanted
    ]
    made: set[str] = set()
    answer = await client.create_topics(new)
    for topic, code, *message in answer.topic_errors:
        if code == INVALID_REPLICATION:
            raise TopicRefused(
                f"topic {topic} cannot have {replication} copies ({message}): start as many "
                "brokers, or ask for fewer with --replication"
            )
        if code not in (0, TOPIC_EXISTS):
            raise LogUnavailable(f"topic {topic} could not be created: error {code} {message}")
        if code == 0:
            made.add(topic)
    return frozenset(made)


async def _internal_faults(
    client: AIOKafkaAdminClient, bootstrap: str, replication: int, min_insync: int
) -> Sequence[str]:
    if replication == 1:
        return ()  # Nothing is less safe than that.
    names = [topic.name for topic in INTERNALS]
    found = await found_topics(client, names)
    brokers: Mapping[str, Mapping[str, str]] = {}
    if len(found) < len(names):
        brokers = await _broker_settings(client)
    return list(
        internal_faults(
            found, brokers, bootstrap=bootstrap, replication=replication, min_insync=min_insync
        )
    )


async def _broker_settings(client: AIOKafkaAdminClient) -> Mapping[str, Mapping[str, str]]:
    """Return the settings of each broker; none if one of them does not answer now."""
    try:
        described = await client.describe_cluster()
        ids = [str(each["node_id"]) for each in described["brokers"]]
        return await _configs(client, ConfigResourceType.BROKER, ids)
    except KafkaError as error:
        log.warning("settings.not_checked", name="brokers", reason=repr(error))
        return {}


async def found_topics(
    client: AIOKafkaAdminClient, names: Sequence[str]
) -> Mapping[str, TopicFound]:
    """Return those of the topics that are there.

    Not by `describe_topics`: a broker that makes topics by itself would make what is only asked
    for, Kafka's own topics too, before anybody could see how.
    """
    request = MetadataRequest(list(names), allow_auto_topic_creation=False)
    answer = await client._send_request(request)  # noqa: SLF001 - no other way.
    there: dict[str, Sequence[Mapping[str, Any]]] = {
        each["topic"]: each["partitions"]
        for each in answer.to_object()["topics"]
        if each["error_code"] == 0
    }
    configs = await topic_settings(client, sorted(there))
    return {
        name: TopicFound(
            name=name,
            partitions=len(parts),
            replicas_min=min((len(part["replicas"]) for part in parts), default=0),
            config=configs.get(name, {}),
        )
        for name, parts in there.items()
        if parts
    }


async def topic_settings(
    client: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return the settings of each topic that may be seen. Raises `LogUnavailable`."""
    return await _configs(client, ConfigResourceType.TOPIC, names)


async def _configs(
    client: AIOKafkaAdminClient, kind: ConfigResourceType, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return the settings of each topic or broker; those that may not be seen are not in."""
    resources = [ConfigResource(kind, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    if not resources:
        return found
    for answer in await client.describe_configs(resources):
        for code, message, _kind, name, entries in answer.resources:
            if code != 0:
                log.warning("settings.not_checked", name=name, code=code, reason=str(message))
                continue
            found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return found
