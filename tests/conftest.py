"""The few fixtures that tests of several folders share."""

import gc
import signal
import uuid
from collections.abc import Iterator
from types import FrameType

import pytest
import structlog

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from tests.kafka import any_kafka, embedded_kafka

LEFT_TO_CHILDREN = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)


def pytest_configure() -> None:
    """Let children start as from a terminal, also when pytest itself runs under `nohup … &`.

    What a parent ignores its children ignore, and `teo` respects that; a handler is not
    inherited. So this process goes on ignoring the signal, and its children do not.
    """
    for number in LEFT_TO_CHILDREN:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


@pytest.fixture(autouse=True)
def _own_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a connection that a test left open be that test's failure, not a later one's."""
    yield
    if request.node.get_closest_marker("broker"):
        gc.collect()


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Let what a test makes of the logs (verbs hush them) be gone when it has ended."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka, started when the first test asks for it."""
    with any_kafka(tmp_path_factory.mktemp("kafka") / "data") as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A cluster of three embedded nodes. Who breaks one calls `heal()` when done."""
    config = ClusterConfig(data_dir=tmp_path_factory.mktemp("kafka-3") / "data", nodes=3)
    with embedded_kafka(config) as cluster:
        yield cluster


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses, so that tests share a broker and no topic."""
    return f"t{uuid.uuid4().hex[:12]}."
