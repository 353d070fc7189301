"""Finds and reads the lines of one execution in the log topic. Opens readers of its own."""

from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timedelta

from api.limits import (
    LOG_PROBE_S,
    LOG_SEARCH_RECORDS_MAX,
    LOG_SEARCH_SLACK_S,
    TAIL_POLL_S,
    TAIL_RECORDS_MAX,
)
from api.tails import LogTail, Shipped, read_batch
from events.log import Log, Partition
from projections.rows import ExecutionRow


class LogSearch:
    """Knows where the lines of executions begin, and reads on from there."""

    def __init__(self, log: Log, tail: LogTail, lead: Callable[[], timedelta]) -> None:
        self._log = log
        self._tail = tail
        self._lead = lead
        """By how much log time is ahead of the stamps of the topic."""

    async def start_of(self, row: ExecutionRow) -> int:
        """Return the offset from which all lines of an execution stand."""
        number = self._tail.partition_of(row.id)
        if not row.attempts:
            return self._tail.position(number)
        known = self._tail.start_of(row.id, row.created_at)
        if known is not None:
            return known
        since = row.attempts[0].started_at - timedelta(seconds=LOG_SEARCH_SLACK_S) - self._lead()
        found = await self._search(Partition(self._tail.topic, number), since)
        self._tail.note_start(row.id, found)
        return found

    async def read(self, execution_id: str, start: int, stop: int) -> AsyncGenerator[Shipped, None]:
        """Yield the batches of an execution that stand from `start` up to `stop`."""
        partition = Partition(self._tail.topic, self._tail.partition_of(execution_id))
        begins = await self._log.begins([partition])
        start = max(start, begins[partition])
        if start >= stop:
            return
        key = execution_id.encode()
        reader = await self._log.open_reader({partition: start})
        try:
            while start < stop:
                for record in await reader.poll(records_max=TAIL_RECORDS_MAX, wait_s=TAIL_POLL_S):
                    if record.offset >= stop:
                        return
                    batch = read_batch(record) if record.key == key else None
                    if batch is not None:
                        yield Shipped(record.offset, batch)
                start = await reader.position(partition)
        finally:
            await reader.close()

    async def end_of(self, execution_id: str) -> int:
        """Return the offset at which the partition of an execution ends now."""
        partition = Partition(self._tail.topic, self._tail.partition_of(execution_id))
        return (await self._log.ends([partition]))[partition]

    async def _search(self, partition: Partition, since: datetime) -> int:
        """Return an offset before which every record is older than `since`, by halving.

        Timestamps are those of brokers, or of workers in a topic of an older version, so `since`
        has slack; what a search gets wrong within the slack only makes the scan longer.
        """
        low = (await self._log.begins([partition]))[partition]
        high = (await self._log.ends([partition]))[partition]
        while high - low > LOG_SEARCH_RECORDS_MAX:
            middle = (low + high) // 2
            probed = await self._probe(partition, middle)
            if probed is None:
                high = middle
            elif probed[1] < since:
                low = probed[0] + 1
            else:
                high = middle
        return low

    async def _probe(self, partition: Partition, offset: int) -> tuple[int, datetime] | None:
        reader = await self._log.open_reader({partition: offset})
        try:
            records = await reader.poll(records_max=1, wait_s=LOG_PROBE_S)
        finally:
            await reader.close()
        return (records[0].offset, records[0].timestamp) if records else None
