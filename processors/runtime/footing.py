"""What an owner stands on: the topics as they were when it recovered, watched from then on.

Between two looks a topic could be made anew, and filled beyond the offset that is read next: what
stands before it would be passed over. So nothing that was read is decided unless the topics have
been seen to be the same a moment ago, and since it was read or just before: to delete a topic, make
it and fill it takes longer than that.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from events.errors import LogUnavailable
from events.facts import TopicsBound
from events.log import Identity, Log
from events.topics import Topics
from processors.runtime.inputs import Inputs, bound_topics, look_at_inputs
from processors.runtime.metrics import RuntimeMetrics
from processors.scheduler.state import Ledger

AGE_S_MAX = 0.1
"""How long ago the topics were seen when something is decided: few requests, and soon enough."""
LOOK_S_MAX = 1.0
BLIND_S = 2.0
"""After a look that failed there is none for so long: a broker that hangs holds nobody up."""

logger = structlog.get_logger()


class TopicWatch:
    """Sees what the topics are, for all owners of a process."""

    def __init__(self, log: Log, topics: Topics, monotonic_s: Callable[[], float]) -> None:
        self._log = log
        self._names = bound_topics(topics)
        self._monotonic_s = monotonic_s
        self._seen: Mapping[str, Identity] = {}
        self._seen_s = float("-inf")
        """When the newest look began."""
        self._blind_until_s = float("-inf")
        self._lock = asyncio.Lock()

    async def look(self, *, age_s_max: float) -> Mapping[str, Identity]:
        """Return what the topics were at most so long ago; of a log that does not answer, what is
        known."""
        async with self._lock:
            now_s = self._monotonic_s()
            if now_s - self._seen_s <= age_s_max or now_s < self._blind_until_s:
                return self._seen
            try:
                async with asyncio.timeout(LOOK_S_MAX):
                    self._seen = await self._log.identify(self._names)
                self._seen_s = now_s
            except (LogUnavailable, TimeoutError) as error:
                logger.debug("topics.not_seen", error=repr(error))
                self._blind_until_s = self._monotonic_s() + BLIND_S
            return self._seen


class Footing:
    """The topics that one partition is decided with."""

    def __init__(
        self, log: Log, topics: Topics, metrics: RuntimeMetrics, watch: TopicWatch
    ) -> None:
        self._log = log
        self._topics = topics
        self._metrics = metrics
        self._watch = watch
        self._number = 0
        self._found: Mapping[str, Identity] = {}
        self._unbound: TopicsBound | None = None

    async def find(self, ledger: Ledger) -> Inputs:
        """Look at the inputs as they are now, and say aloud what is not as the journal knows it.

        Raises as `look_at_inputs` does.
        """
        found = await look_at_inputs(self._log, self._topics, ledger)
        self._number = ledger.partition
        self._found = found.identities
        self._unbound = None if found.resets or found.expired else found.bound
        for expired in found.expired:
            logger.critical(
                "partition.inputs_expired",
                topic=expired.partition.topic,
                partition=self._number,
                first=expired.first,
                count=expired.count,
            )
            self._metrics.expired.add(expired.count, {"topic": expired.partition.topic})
        for reset, _ in found.resets:
            logger.critical(
                "partition.inputs_reset",
                topic=reset.topic,
                partition=self._number,
                next=reset.next_offset,
                was=reset.was_offset,
                reason=reset.reason,
            )
            self._metrics.resets.add(1, {"topic": reset.topic})
        return found

    async def check(self, *, age_s_max: float) -> None:
        """Raise LogUnavailable if the topics are not what they were when they were found.

        One that was made anew has another id; a partition that got its leader anew may have lost
        records on the way; with other partitions pools belong elsewhere. Each means that all must
        be looked at again.
        """
        now = await self._watch.look(age_s_max=age_s_max)
        for name, found in self._found.items():
            if name in now and _changed(found, now[name], self._number):
                raise LogUnavailable(
                    f"{name} was made anew, has its leader anew, or other partitions: recovering"
                )

    def bound_now(self) -> TopicsBound | None:
        """Return, once, the fact of which topics these are; None if the journal has it."""
        found, self._unbound = self._unbound, None
        return found


def _changed(found: Identity, now: Identity, number: int) -> bool:
    if found.id != now.id:
        return True
    if found.epochs and now.epochs and len(found.epochs) != len(now.epochs):
        return True
    before, after = found.epochs[number : number + 1], now.epochs[number : number + 1]
    return bool(before and after) and before != after
