"""How safe Kafka's own topics must be, each fault with what mends it."""

from collections.abc import Mapping

import pytest

from events.internal_rules import GROUPS, TRANSACTIONS, internal_faults
from events.topic_rules import TopicFound

SAFE = {
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "offsets.topic.replication.factor": "3",
}


def topic(name: str, copies: int = 3, **config: str) -> TopicFound:
    given = {key.replace("_", "."): value for key, value in config.items()}
    return TopicFound(name=name, partitions=4, replicas_min=copies, config=given)


def said(
    *there: TopicFound,
    brokers: Mapping[str, Mapping[str, str]] | None = None,
    replication: int = 3,
    min_insync: int = 2,
) -> list[str]:
    return list(
        internal_faults(
            {each.name: each for each in there},
            brokers or {},
            bootstrap="kafka:9092",
            replication=replication,
            min_insync=min_insync,
        )
    )


def test_what_is_safe_or_cannot_be_seen_is_no_fault() -> None:
    safe = topic(TRANSACTIONS, min_insync_replicas="2")
    assert said(safe, topic(GROUPS, min_insync_replicas="1")) == []
    assert said(topic(TRANSACTIONS), topic(GROUPS)) == []
    assert said(brokers={"1": SAFE, "2": {}}) == []
    assert said() == []


def test_too_few_copies_are_named_with_what_is_lost_with_a_broker() -> None:
    (fault,) = said(topic(TRANSACTIONS, copies=1), topic(GROUPS))
    assert "topic __transaction_state: it has 1 copies of a partition, ours have 3" in fault
    assert "stops everybody whose transactions it keeps" in fault
    assert "whoever runs the brokers at kafka:9092 must add copies" in fault
    (fault,) = said(topic(TRANSACTIONS), topic(GROUPS, copies=2))
    assert "topic __consumer_offsets: it has 2 copies" in fault


def test_the_end_of_a_transaction_is_on_as_many_brokers_as_a_fact() -> None:
    (fault,) = said(topic(TRANSACTIONS, min_insync_replicas="1"), topic(GROUPS))
    assert "it has min.insync.replicas=1" in fault
    assert "must set min.insync.replicas=2 of it" in fault


@pytest.mark.parametrize("key", sorted(SAFE))
def test_what_is_not_there_yet_is_judged_by_what_would_make_it(key: str) -> None:
    (fault,) = said(brokers={"1": SAFE, "2": {**SAFE, key: "1"}})
    assert f"broker 2: it has {key}=1" in fault
    assert f"set {key}={SAFE[key]}" in fault
    there = said(topic(TRANSACTIONS), topic(GROUPS), brokers={"2": {**SAFE, key: "1"}})
    assert there == [], "a setting that made a topic once does not matter any more"


def test_on_one_broker_nothing_is_asked_and_more_than_three_copies_of_none() -> None:
    alone = {"replication": 1, "min_insync": 1}
    worst = {"1": dict.fromkeys(SAFE, "1")}
    assert said(topic(TRANSACTIONS, copies=1), brokers=worst, **alone) == []
    assert said(topic(TRANSACTIONS), topic(GROUPS), replication=5, min_insync=4) == []
    two = topic(TRANSACTIONS, copies=2, min_insync_replicas="1")
    assert said(two, topic(GROUPS, copies=2), replication=2, min_insync=1) == []
