"""The frame of verbs that speak to Kafka themselves, as `fsck` does. Decides nothing."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_direct(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a loop of its own; what it raises is all that is said of Kafka."""
    hush_kafka()
    return asyncio.run(work)


def hush_kafka() -> None:
    """Keep the client of Kafka from saying each of its tries beside our one error."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
