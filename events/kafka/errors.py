"""Kafka's errors in this project's words, mapped once, at the boundary."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiokafka import errors as kafka

from events.errors import Fenced, LogUnavailable, RecordTooBig, TopicMissing
from events.log import Outgoing
from events.topics import OUTPUT_BYTES_MAX, RECORD_BYTES_KEY

_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch, kafka.InvalidProducerIdMapping)
_MISSING = (kafka.UnknownTopicOrPartitionError,)
_STAMP = (kafka.InvalidTimestampError,)
_TOO_BIG = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
REQUEST_BYTES_MAX = 2 * OUTPUT_BYTES_MAX
"""What is sent in one record at most: twice what topics must take, so that an operator who raises
the limit of a topic gets on without a new version."""


@contextmanager
def mapped(what: str, records: Sequence[Outgoing] = ()) -> Iterator[None]:
    """Raise what the block raises as an error of ours; `what` says what was tried.

    `records`: those that it writes.
    """
    try:
        yield
    except _FENCED as error:
        raise Fenced(f"{what}: a newer owner took over ({error!r})") from error
    except _MISSING as error:
        raise TopicMissing(f"{what}: {error!r}; create the topics with `teo init`") from error
    except _STAMP as error:
        raise LogUnavailable(
            f"{what}: the broker refuses the stamps of this machine, whose clock is more than an "
            "hour ahead of the broker's: set the clock that is wrong (NTP); topics that stamp what "
            "is appended (message.timestamp.type=LogAppendTime) take it whatever clocks say"
        ) from error
    except _TOO_BIG as error:
        raise too_big(what, records) from error
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise LogUnavailable(f"{what}: the client gave up what it was doing") from None
    except (kafka.KafkaError, TimeoutError, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, _FENCED):
            raise Fenced(f"{what}: a newer owner took over ({cause!r})") from error
        raise LogUnavailable(f"{what}: {error!r}") from error


def refuse_too_big(what: str, records: Sequence[Outgoing]) -> None:
    """Raise `RecordTooBig` before anything is sent, if one of `records` is never sent."""
    if any(each.size_bytes > REQUEST_BYTES_MAX for each in records):
        raise too_big(what, records)


def too_big(what: str, records: Sequence[Outgoing]) -> RecordTooBig:
    """Return the error of records of which one is bigger than its topic takes."""
    largest = max(records, key=lambda each: each.size_bytes, default=None)
    if largest is None:
        return RecordTooBig(f"{what}: it is more than the topic takes")
    return RecordTooBig(
        f"{what}: a topic does not take so big a record; the biggest has {largest.size_bytes} "
        f"bytes and goes to {largest.topic}. `teo init` says if that topic takes less than it "
        f"must; else make smaller what leads to it, or set {RECORD_BYTES_KEY} of the topic higher, "
        f"to {REQUEST_BYTES_MAX} at most"
    )


def is_cancelled() -> bool:
    """Return True if the current task was cancelled by somebody.

    aiokafka lets cancels of its own tasks out of its calls. Taken for one of ours, such a cancel
    would end the task that called, without a word.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
