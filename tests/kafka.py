"""Chooses the Kafka that tests run against; never one whose topics somebody needs."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.local.cluster import ClusterConfig, EmbeddedKafka

container_image = "confluentinc/cp-kafka:7.9.0"


@contextmanager
def any_kafka(folder: Path) -> Iterator[str]:
    """The address in TEO_TEST_KAFKA; `testcontainers` there starts one in Docker; else our own."""
    choice = os.environ.get("TEO_TEST_KAFKA", "")
    if choice == "testcontainers":
        yield from _from_container()
    elif choice:
        yield choice
    else:
        with embedded_kafka(ClusterConfig(data_dir=folder)) as kafka:
            yield kafka.bootstrap


@contextmanager
def embedded_kafka(config: ClusterConfig) -> Iterator[EmbeddedKafka]:
    """An embedded cluster for tests that are not async themselves."""
    kafka = EmbeddedKafka(config)
    asyncio.run(kafka.start())
    try:
        yield kafka
    finally:
        if config.nodes == 1:
            asyncio.run(kafka.stop())
        else:
            # Three leave the quorum together in 5 s, and nobody needs the data of a test again.
            kafka.destroy()


def _from_container() -> Iterator[str]:
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer(container_image).with_kraft()
    for name, value in {
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "2000",
    }.items():
        container = container.with_env(name, value)
    with container:
        yield container.get_bootstrap_server()
