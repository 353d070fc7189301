"""What an owner stands on: the topics as they were when it recovered, watched from then on."""

from collections.abc import Mapping, Sequence

import structlog

from events.errors import LogUnavailable
from events.facts import Event, TopicsBound
from events.log import Identity, Log
from events.topics import Topics
from processors.runtime.inputs import Inputs, look_at_inputs
from processors.runtime.metrics import RuntimeMetrics
from processors.scheduler.state import Ledger

logger = structlog.get_logger()


class Footing:
    """The topics that one partition is decided with."""

    def __init__(self, log: Log, topics: Topics, metrics: RuntimeMetrics) -> None:
        self._log = log
        self._topics = topics
        self._metrics = metrics
        self._number = 0
        self._seen: Mapping[str, Identity] = {}
        self._unbound: TopicsBound | None = None
        self._is_doubtful = False

    async def find(self, ledger: Ledger) -> Inputs:
        """Look at the inputs as they are now, and say aloud what is not as the journal knows it.

        Raises as `look_at_inputs` does.
        """
        self._is_doubtful = False
        found = await look_at_inputs(self._log, self._topics, ledger)
        self._number = ledger.partition
        self._seen = found.identities
        self._unbound = None if found.resets else found.bound
        for expired in found.expired:
            logger.critical(
                "partition.inputs_expired",
                topic=expired.partition.topic,
                partition=self._number,
                first=expired.first,
                count=expired.count,
            )
            self._metrics.expired.add(expired.count, {"topic": expired.partition.topic})
        for reset in found.resets:
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

    def see(self, identities: Mapping[str, Identity]) -> None:
        """Learn what the topics are now.

        One that was made anew has another id; a partition that got its leader anew may have lost
        records on the way. Either means that all must be looked at again.
        """
        self._is_doubtful |= any(
            name in identities and _changed(seen, identities[name], self._number)
            for name, seen in self._seen.items()
        )

    def check(self) -> None:
        """Raise LogUnavailable if the topics are not what they were when they were found."""
        if self._is_doubtful:
            raise LogUnavailable("a topic was made anew or has its leader anew: looking at all")

    def bound_now(self) -> Sequence[Event]:
        """Return, once, the fact of which topics these are; nothing if the journal has it."""
        found, self._unbound = self._unbound, None
        return () if found is None else (found,)


def _changed(seen: Identity, now: Identity, number: int) -> bool:
    if seen.id != now.id:
        return True
    before, after = seen.epochs[number : number + 1], now.epochs[number : number + 1]
    return bool(before and after) and before != after
