"""Kafka's errors in this project's words, mapped once, at the boundary."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as kafka

from events.errors import Fenced, LogUnavailable, TopicMissing

_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch, kafka.InvalidProducerIdMapping)
_MISSING = (kafka.UnknownTopicOrPartitionError,)


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Raise what the block raises as an error of ours; `what` says what was tried."""
    try:
        yield
    except _FENCED as error:
        raise Fenced(f"{what}: a newer owner took over ({error!r})") from error
    except _MISSING as error:
        raise TopicMissing(f"{what}: {error!r}; create the topics with `teo init`") from error
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise LogUnavailable(f"{what}: the client gave up what it was doing") from None
    except (kafka.KafkaError, TimeoutError, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, _FENCED):
            raise Fenced(f"{what}: a newer owner took over ({cause!r})") from error
        raise LogUnavailable(f"{what}: {error!r}") from error


def is_cancelled() -> bool:
    """Return True if the current task was cancelled by somebody.

    aiokafka lets cancels of its own tasks out of its calls. Taken for one of ours, such a cancel
    would end the task that called, without a word.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
