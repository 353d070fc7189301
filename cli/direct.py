"""The frame of verbs that speak to Kafka themselves, as `fsck` does. Decides nothing."""

import asyncio
import getpass
import logging
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
import typer

from cli.problems import BadUsage
from cli.serve import DATA_DIR
from events.topics import OUTPUT_BYTES_MAX

T = TypeVar("T")
KAFKA_DEFAULT = "127.0.0.1:9092"

KafkaIfNamed = Annotated[
    str | None,
    typer.Option("--kafka", envvar="TEO_KAFKA", help="Bootstrap address, HOST:PORT,…"),
]
DataDirIfNamed = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="TEO_DATA_DIR",
        help="Folder of `teo up`: its Kafka, which is started for this verb if it does not run.",
    ),
]


@asynccontextmanager
async def kafka_of(kafka: str | None, data_dir: Path | None) -> AsyncIterator[str]:
    """Return the address of the Kafka that is meant; one of a folder runs while the block does."""
    from cli.local.cluster import ClusterConfig, EmbeddedKafka
    from cli.up import read_state

    folder = (data_dir or DATA_DIR).expanduser().absolute()
    state = read_state(folder) if kafka is None else None
    if kafka is not None or state is not None or data_dir is None:
        yield kafka or (str(state["kafka"]) if state else KAFKA_DEFAULT)
    elif not (folder / "kafka").is_dir():
        raise BadUsage(
            f"{folder} has no Kafka of `teo up`",
            next_step="name the folder of `teo up` with --data-dir, or a Kafka with --kafka",
        )
    else:
        # How it starts and stops is nobody's answer.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        config = ClusterConfig(data_dir=folder / "kafka", bytes_max=OUTPUT_BYTES_MAX)
        async with EmbeddedKafka(config) as cluster:
            yield cluster.bootstrap


def operator() -> str:
    """Return who uses this machine, for what goes on the journal."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return f"operator:{user}@{socket.gethostname()}"


def run_direct(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a loop of its own; what it raises is all that is said of Kafka."""
    hush_kafka()
    return asyncio.run(work)


def hush_kafka() -> None:
    """Keep the client of Kafka from saying each of its tries beside our one error."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
