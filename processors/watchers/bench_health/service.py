"""The watcher's process: folds the journal, follows it through Faust, sends what the rule asks for.

Memory is all it keeps, so it may be killed at any moment. Whatever goes wrong ends the process, so
that nothing is skipped: the next one folds the journal again and asks again, under the same ids.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NoReturn

import structlog
from faust import EventT, StreamT
from faust.types import TP
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from events.append_time import AppendTime
from events.codec import encode, type_name
from events.errors import LogUnavailable, TeoError
from events.log import Log, Partition, Record
from events.topics import Topics
from processors.scheduler.state import EPOCH
from processors.watchers.application import watcher_app
from processors.watchers.bench_health.metrics import health_metrics
from processors.watchers.bench_health.partition import WatchedPartition
from processors.watchers.bench_health.rule import Ask, has_lapsed
from processors.watchers.records import record_of

NAME = "bench_health"
FOLD_RECORDS_MAX = 2_000
FOLD_WAIT_S = 0.5
FOLD_STALLED_S_MAX = 30.0
SEND_S_MAX = 20.0
ASK_AGAIN_S = 60.0
"""A command without an outcome is sent again after this: the same id, so it counts once."""
STOP_S_MAX = 5.0
FATAL = 3
"""Exit code of a process that ends because it must not go on."""

logger = structlog.get_logger()


class BenchHealthWatcher:
    """Watches the partitions of the journal that its consumer group gives to this process."""

    def __init__(self, log: Log, topics: Topics, bootstrap: str, meter: Meter) -> None:
        self._log = log
        self._topics = topics
        self._times: dict[int, AppendTime] = {}
        """The log's time of each partition: its newest event's, carried on."""
        self._watched: dict[int, WatchedPartition] = {}
        self._is_ready = False
        self._metrics = health_metrics(meter, unanswered=self._unanswered)
        group = f"{topics.prefix}-watcher-{NAME}"
        self._app = watcher_app(group, bootstrap, starts=self._starts)
        journal = self._app.topic(topics.events, key_type=bytes, value_type=bytes)
        self._commands = self._app.topic(topics.commands, key_type=bytes, value_type=bytes)
        self._app.agent(journal, name=f"{group}-agent", concurrency=1)(self._follow)
        self._app.timer(ASK_AGAIN_S, name=f"{group}-ask-again")(self._ask_again)
        self._app.on_rebalance_complete.connect(self._take_over)

    @property
    def is_ready(self) -> bool:
        """True once every partition it has is folded to its end."""
        return self._is_ready

    async def run(self) -> None:
        """Watch until cancelled; then leave the group, and end the process within seconds."""
        try:
            with _nothing_skipped():
                await self._app.start()
                await self._app.wait()
                if self._app.crashed or not _is_told_to_stop():
                    raise LogUnavailable(f"faust gave up: {self._app.crash_reason!r}")
        finally:
            await self._stop(0 if _is_told_to_stop() else FATAL)

    async def _stop(self, exit_code: int) -> None:
        """Leave the group, so that others take over at once.

        Faust may wait for a broker, or for itself, for ever, and swallows being cancelled; there
        is nothing to be kept, so the process is ended from outside the loop if it takes too long.
        """
        self._is_ready = False
        last_word = threading.Timer(STOP_S_MAX, os._exit, (exit_code,))
        last_word.daemon = True
        last_word.start()
        with suppress(Exception):
            await self._app.stop()

    def _starts(self) -> Mapping[TP, int]:
        """Return where Faust's stream of each partition begins."""
        return {
            TP(self._topics.events, number): watched.offset
            for number, watched in self._watched.items()
        }

    async def _take_over(self, *_: object, **__: object) -> None:
        """Fold what was given to this process; drop what was taken. No stream flows meanwhile."""
        with _nothing_skipped():
            assigned = {
                tp.partition
                for tp in self._app.consumer.assignment()
                if tp.topic == self._topics.events
            }
            self._is_ready = False
            for number in sorted(self._watched.keys() - assigned):
                del self._watched[number]
                logger.info("partition.given_up", partition=number)
            for number in sorted(assigned - self._watched.keys()):
                self._watched[number] = await self._fold(number)
            await self._send_unanswered()
            self._is_ready = True

    async def _fold(self, number: int) -> WatchedPartition:
        """Return the fold of a whole partition, as it is now."""
        began_s = time.perf_counter()
        partition = Partition(self._topics.events, number)
        end = (await self._log.ends([partition]))[partition]
        start = (await self._log.begins([partition]))[partition]
        watched = WatchedPartition(number, offset=start)
        reader = await self._log.open_reader({partition: start})
        clock = asyncio.get_running_loop().time
        progress_s = clock()
        try:
            while await reader.position(partition) < end:
                records = await reader.poll(records_max=FOLD_RECORDS_MAX, wait_s=FOLD_WAIT_S)
                for record in records:
                    self._apply(watched, record)
                if records:
                    progress_s = clock()
                elif clock() - progress_s > FOLD_STALLED_S_MAX:
                    raise LogUnavailable(
                        f"journal partition {number}: nothing read for {FOLD_STALLED_S_MAX:.0f} s "
                        f"although it goes on to offset {end}"
                    )
        finally:
            await reader.close()
        took_s = time.perf_counter() - began_s
        self._metrics.fold.record(took_s)
        logger.info(
            "partition.taken", partition=number, offset=watched.offset, fold_s=round(took_s, 3)
        )
        return watched

    def _apply(self, watched: WatchedPartition, record: Record) -> tuple[Ask, ...]:
        skipped = watched.skipped
        asked = watched.take(record)
        self._metrics.records.add(1)
        if watched.skipped > skipped:
            self._metrics.skipped.add(watched.skipped - skipped)
        return asked

    async def _follow(self, stream: StreamT[bytes]) -> None:
        """Faust's agent: one record after the other."""
        with _nothing_skipped():
            async for event in stream.events():
                await self._take(event)

    async def _take(self, event: EventT[bytes]) -> None:
        record = record_of(event.message)
        watched = self._watched.get(record.partition)
        if watched is not None:
            await self._send(watched, self._apply(watched, record))

    async def _ask_again(self) -> None:
        """Faust's timer: what has no outcome yet may have been lost on its way."""
        with _nothing_skipped():
            await self._send_unanswered()

    async def _send_unanswered(self) -> None:
        for watched in list(self._watched.values()):
            await self._send(watched, watched.health.unanswered())

    def _now(self, watched: WatchedPartition) -> datetime:
        """Return what time it is on the log, at least: no clock of this machine voids an ask."""
        time_ = self._times.setdefault(watched.number, AppendTime(time.monotonic))
        newest, known = watched.newest_at(), time_.now()
        if newest is not None and (known is None or newest > known):
            time_.stamped(newest)
        return time_.now() or EPOCH

    async def _send(self, watched: WatchedPartition, asked: Iterable[Ask]) -> None:
        """Return once each that is not void is acknowledged. Raises if it is not in time."""
        for message in asked:
            meta = message.meta
            if has_lapsed(message, self._now(watched)):
                continue
            headers = {
                "ce_type": type_name(message).encode(),
                "ce_id": meta.command_id.encode(),
                "traceparent": meta.traceparent.encode(),
            }
            async with asyncio.timeout(SEND_S_MAX):
                sent = await self._commands.send(
                    key=meta.pool.encode(), value=encode(message), headers=headers
                )
                await sent
            self._metrics.commands.add(1, {"pool": meta.pool})
            logger.info(
                "watcher.quarantine_asked",
                pool=meta.pool,
                bench=message.body.bench,
                command_id=meta.command_id,
            )

    def _unanswered(self, _: CallbackOptions) -> list[Observation]:
        asked = [(a, each) for each in self._watched.values() for a in each.health.unanswered()]
        return [Observation(sum(not has_lapsed(a, self._now(each)) for a, each in asked))]


def _is_told_to_stop() -> bool:
    """Return True if the role has cancelled this task: Faust may swallow that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def _nothing_skipped() -> Iterator[None]:
    """End the process with whatever the block raises: Faust would go on with the next record."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any at all; the next process folds anew.
        _end(error)


def _end(error: Exception) -> NoReturn:
    code = error.code if isinstance(error, TeoError) else type(error).__name__
    logger.error("watcher.fatal", code=code, error=str(error), exc_info=error)
    os._exit(FATAL)
