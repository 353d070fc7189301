"""Which settings of topics are refused, each with its reason and what mends it."""

from dataclasses import replace

import pytest

from events.topic_rules import TopicFound, faults, half_an_environment, lost_topics, mendable
from events.topics import Topics, TopicSpec, specs

TOPICS = Topics("teo")
SPECS = {spec.name.removeprefix("teo."): spec for spec in specs(TOPICS, min_insync=2)}


def found(spec: TopicSpec, **config: str) -> TopicFound:
    given = {key.replace("_", "."): value for key, value in config.items()}
    return TopicFound(name=spec.name, partitions=8, replicas_min=3, config={**spec.config, **given})


def said(topic: TopicSpec, there: TopicFound) -> list[str]:
    return list(faults(topic, there, bootstrap="kafka:9092", replication=3, partitions=8))


@pytest.mark.parametrize("topic", sorted(SPECS))
def test_what_we_make_ourselves_is_safe(topic: str) -> None:
    assert said(SPECS[topic], found(SPECS[topic])) == []
    assert said(SPECS[topic], replace(found(SPECS[topic]), config={})) == [], "unseen is not unsafe"


@pytest.mark.parametrize(
    ("topic", "config", "mended", "why"),
    [
        ("events", {"retention_ms": "604800000"}, "retention.ms=-1", "beginning"),
        ("events", {"retention_bytes": "1000000"}, "retention.bytes=-1", "push out facts"),
        ("events", {"cleanup_policy": "compact"}, "cleanup.policy=delete", "each of them counts"),
        ("events", {"cleanup_policy": "compact,delete"}, "cleanup.policy=delete", "thrown away"),
        ("events", {"unclean_leader_election_enable": "true"}, "enable=false", "missed records"),
        ("events", {"min_insync_replicas": "1"}, "min.insync.replicas=2", "fewer than 2"),
        ("events", {"min_insync_replicas": "4"}, "min.insync.replicas=2", "only 3 copies"),
        ("commands", {"message_timestamp_type": "CreateTime"}, "type=LogAppendTime", "clocks"),
        ("reports", {"message_timestamp_type": "CreateTime"}, "type=LogAppendTime", "clocks"),
        ("commands", {"retention_ms": "3600000"}, "retention.ms=604800000", "not decided"),
        ("reports", {"retention_bytes": "1000"}, "retention.bytes=-1", "not decided yet"),
        ("tasks", {"cleanup_policy": "compact"}, "cleanup.policy=delete", "thrown away"),
        ("snapshots", {"cleanup_policy": "delete"}, "cleanup.policy=compact", "pile up"),
        ("dlq", {"cleanup_policy": "compact"}, "cleanup.policy=delete", "thrown away"),
        ("events", {"max_message_bytes": "1048588"}, "bytes=4194304", "stop its partition"),
        ("tasks", {"max_message_bytes": "4194303"}, "bytes=4194304", "stop its partition"),
        ("results", {"max_message_bytes": "1048588"}, "bytes=4194304", "stop its partition"),
        ("dlq", {"max_message_bytes": "1048588"}, "bytes=4194304", "stop its partition"),
        ("snapshots", {"max_message_bytes": "1048588"}, "bytes=4194304", "stop its partition"),
        ("commands", {"max_message_bytes": "1048588"}, "bytes=2097152", "would be refused"),
    ],
)
def test_what_is_dangerous_is_named_with_what_mends_it(
    topic: str, config: dict[str, str], mended: str, why: str
) -> None:
    spec = SPECS[topic]
    (fault,) = said(spec, found(spec, **config))
    ((key, value),) = config.items()
    assert f"{key.replace('_', '.')}={value}" in fault
    assert why in fault
    assert "`teo init --kafka kafka:9092 --mend` sets" in fault
    assert f"of {spec.name}" in fault
    assert mended in fault
    (mending,) = mendable(spec, found(spec, **config))
    assert "=".join(mending) in fault


@pytest.mark.parametrize(
    ("topic", "config"),
    [
        ("results", {"retention_ms": "3600000"}),
        ("logs", {"retention_bytes": "1000000"}),
        ("logs", {"max_message_bytes": "1048588"}),
        ("events", {"max_message_bytes": "10485760"}),
        ("dlq", {"retention_ms": "-1"}),
        ("commands", {"retention_ms": "-1"}),
        ("events", {"min_insync_replicas": "3"}),
        ("snapshots", {"cleanup_policy": "compact,delete"}),
    ],
)
def test_what_costs_only_comfort_is_the_owners_choice(topic: str, config: dict[str, str]) -> None:
    assert said(SPECS[topic], found(SPECS[topic], **config)) == []


def test_the_number_of_partitions_and_copies_is_checked() -> None:
    spec = SPECS["events"]
    (fault,) = said(spec, replace(found(spec), partitions=4))
    assert "4 partitions, 8" in fault
    assert "another topic prefix" in fault
    (fault,) = said(spec, replace(found(spec), replicas_min=1))
    assert "1 copies" in fault
    assert "--replication 1" in fault
    everything = replace(
        found(spec, retention_ms="1", cleanup_policy="compact"), partitions=1, replicas_min=1
    )
    assert len(said(spec, everything)) == 4, "all of it is said at once"


def test_topics_of_an_environment_are_there_all_or_none() -> None:
    wanted = tuple(SPECS.values())
    names = [spec.name for spec in wanted]
    assert lost_topics(wanted, names, ()) == []
    assert lost_topics(wanted, (), ()) == (), "there is none yet"
    snapshots, journal = SPECS["snapshots"].name, SPECS["events"].name
    assert lost_topics(wanted, set(names) - {snapshots}, ()) == [], "it is only a short cut"
    results = SPECS["results"].name
    there = set(names) - {results}
    assert lost_topics(wanted, there, ()) == [results]
    assert lost_topics(wanted, there, [results]) == []
    assert f"`teo init --make-missing {results} --kafka k:1`" in half_an_environment(
        wanted, there, [results], bootstrap="k:1"
    )
    there = set(names) - {journal}
    assert lost_topics(wanted, there, [journal]) == [journal], "not by a word in passing"
    text = half_an_environment(wanted, there, [journal], bootstrap="k:1")
    assert "`teo journal begin-anew --reason TEXT --kafka k:1`" in text
    assert "--make-missing" not in text
