"""Embedded brokers whose clients all come through the fault proxy."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cli.local.cluster import ClusterConfig, EmbeddedKafka
from tests.chaos.proxy import Proxy


@asynccontextmanager
async def proxied_kafka(
    folder: Path,
    *,
    nodes: int,
    dice: random.Random,
    group_of: Callable[[int, int], str] = lambda *_: "",
) -> AsyncIterator[tuple[EmbeddedKafka, Proxy]]:
    """Start `nodes` brokers that send their clients to a proxy; end both without mercy."""
    proxy = Proxy(dice, group_of=group_of)
    try:
        ports = await proxy.listen(range(1, nodes + 1))
        kafka = EmbeddedKafka(ClusterConfig(data_dir=folder, nodes=nodes, advertised=ports))
        await kafka.start()
        try:
            proxy.pass_on_to(dict(kafka.ports))
            yield kafka, proxy
        finally:
            kafka.destroy()
    finally:
        await proxy.close()
