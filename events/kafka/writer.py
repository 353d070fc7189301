"""The transactional writer of one partition's owner. After any error it is dead."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from events.errors import LogUnavailable
from events.kafka.errors import REQUEST_BYTES_MAX, mapped, refuse_too_big
from events.kafka.strict_sender import StrictSender
from events.kafka.whole import dropped, started
from events.log import Outgoing, Partition, Position

OPEN_S_MAX = 10.0
COMMIT_S_MAX = 10.0
CLOSE_S_MAX = 3.0
TRANSACTION_MS_MAX = 15_000
"""A dead owner's open transaction is ended by the broker after this, if nobody fences it before."""


class KafkaWriter:
    """Satisfies `events.log.Writer`."""

    def __init__(
        self, producer: AIOKafkaProducer, transactional_id: str, commit_s: float = COMMIT_S_MAX
    ) -> None:
        self._producer = producer
        self._id = transactional_id
        self._commit_s = commit_s
        self._is_dead = False
        self._due: dict[Partition, int] = {}

    @classmethod
    async def open(
        cls, transactional_id: str, settings: Mapping[str, Any], *, commit_s: float = COMMIT_S_MAX
    ) -> "KafkaWriter":
        """Fence older writers of `transactional_id` and take over.

        A commit, and each request of it, may take `commit_s`.
        """
        producer = AIOKafkaProducer(
            **settings,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_MS_MAX,
            max_request_size=REQUEST_BYTES_MAX,
            acks="all",
            request_timeout_ms=int(commit_s * 1000),
        )
        plain = producer._sender  # noqa: SLF001 - aiokafka has no way to hand a sender in.
        producer._sender = StrictSender(  # noqa: SLF001
            producer.client,
            acks=plain._acks,  # noqa: SLF001
            txn_manager=producer._txn_manager,  # noqa: SLF001
            message_accumulator=producer._message_accumulator,  # noqa: SLF001
            retry_backoff_ms=100,
            request_timeout_ms=int(commit_s * 1000),
        )
        with mapped(f"open the writer {transactional_id}"):
            await started(
                producer,
                limit_s=OPEN_S_MAX,
                stop=lambda: dropped(producer, limit_s=CLOSE_S_MAX),
            )
        return cls(producer, transactional_id, commit_s)

    def expect(self, place: Partition, offset: int) -> None:
        """Let nothing be committed to `place` that does not stand right behind what is known."""
        self._due[place] = offset

    async def commit(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        """Write all of `records` in one transaction; return where they stand, once committed."""
        if self._is_dead:
            raise LogUnavailable(f"writer {self._id} is dead: open a new one")
        self._is_dead = True  # Until it is proved to live: also when this call is cancelled.
        what = f"commit {len(records)} records as {self._id}"
        refuse_too_big(what, records)
        with mapped(what, records):
            async with asyncio.timeout(self._commit_s):
                placed = await self._commit(records)
        self._is_dead = False
        return placed

    async def _commit(self, records: Sequence[Outgoing]) -> Sequence[Position]:
        producer = self._producer
        await producer.begin_transaction()
        sent = [
            await producer.send(
                each.topic,
                value=each.value,
                key=each.key,
                partition=each.partition,
                headers=list(each.headers.items()),
            )
            for each in records
        ]
        placed = await asyncio.gather(*sent)  # Of many that fail, each is looked at.
        self._check_places(placed)
        await producer.commit_transaction()
        return [Position(each.partition, each.offset) for each in placed]

    def _check_places(self, placed: Sequence[RecordMetadata]) -> None:
        """Raise LogUnavailable if a record is not where it is due; else note what is due next.

        The transaction of who raises is aborted by whoever opens the next writer.
        """
        for place, due in self._due.items():
            found = [each.offset for each in placed if (each.topic, each.partition) == place]
            if found != list(range(due, due + len(found))):
                raise LogUnavailable(
                    f"{self._id}: records of {place.topic}/{place.number} stand at {found[0]} to "
                    f"{found[-1]}, not from {due} on: there is more on it than was read"
                )
            if found:
                self._due[place] = found[-1] + 2  # Behind the marker of the commit.

    async def close(self) -> None:
        """Give back the connection; an open transaction is left to whoever fences it."""
        self._is_dead = True
        await dropped(self._producer, limit_s=CLOSE_S_MAX)
