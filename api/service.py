"""What the routes share: the deps and what runs over them. Wired by hand, once per app."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from api.clock import LogClock
from api.deps import Deps
from api.ending import end
from api.gateway import Gateway
from api.hub import Hub
from api.letter_box import LetterBox
from api.limits import (
    LOG_PROBE_S,
    LONG_POLLS_EACH_MAX,
    LONG_POLLS_MAX,
    SSE_CLIENTS_EACH_MAX,
    TAIL_RETRY_S,
)
from api.log_search import LogSearch
from api.partitions import PartitionWatch
from api.past import Past
from api.problems import Problem
from api.shares import Shares
from api.tails import LogTail
from events.errors import TeoError

log = structlog.get_logger()


class Service:
    """The app without HTTP."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.reads = deps.reads
        self.clock = LogClock(deps, deps.reads.newest_at, time.monotonic)
        self.partitions = PartitionWatch(deps.log, deps.topics, deps.clock)
        self.gateway = Gateway(deps, self.clock, self.partitions)
        self.hub = Hub(deps.feed)
        self.tail = LogTail(deps.log, deps.topics.logs, self.clock.now)
        self.search = LogSearch(deps.log, self.tail, self.clock.lead)
        self.letters = LetterBox(deps.log, deps.topics.dlq)
        most = deps.settings.sse_clients_max
        self.streams = Shares(
            "event streams",
            "too_many_streams",
            most=most,
            most_each=min(most, SSE_CLIENTS_EACH_MAX),
        )
        self.waits = Shares(
            "long polls", "too_many_waits", most=LONG_POLLS_MAX, most_each=LONG_POLLS_EACH_MAX
        )
        self.past = Past(deps.log, deps.topics.events)
        self.failure: str | None = None
        """Why the app cannot go on; None: it can."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the projector and the tails beside the requests."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._guard(name, run))
                for name, run in (
                    ("projector", self.deps.projector.run),
                    ("hub", self.hub.run),
                    ("log tail", self.tail.run),
                    ("partitions", self.partitions.run),
                )
            ]
            try:
                yield
            finally:
                self.deps.stopping.set()
                await end(tasks)
                await self.past.close()

    async def log_ready(self) -> None:
        """Return once logs can be read; raises the 503 it deserves after a while."""
        try:
            async with asyncio.timeout(LOG_PROBE_S):
                await self.tail.ready()
        except TimeoutError as error:
            detail = "the log topic cannot be read yet; try again in a moment"
            headers = {"Retry-After": "2"}
            raise Problem(503, "log_unavailable", detail, headers=headers) from error

    async def _guard(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one of the parts; a retriable error begins it again, any other ends the service."""
        while True:
            try:
                await run()
            except TeoError as error:
                if not error.retriable:
                    self._fail(name, error)
                    return
                log.warning("service.part_retried", part=name, error=str(error))
                await asyncio.sleep(TAIL_RETRY_S)
            except Exception as error:  # noqa: BLE001 -- the process must not serve on half of it.
                self._fail(name, error)
                return
            else:
                self._fail(name, RuntimeError("it ended by itself"))
                return

    def _fail(self, name: str, error: Exception) -> None:
        self.failure = f"the {name} cannot go on: {type(error).__name__}: {error}"
        log.critical("service.part_failed", part=name, exc_info=error)
        if self.deps.on_fatal is not None:
            self.deps.on_fatal()
