"""The scheduler process: a member of the group that owns the partitions it is given."""

import asyncio
from collections.abc import Mapping

import structlog
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from events.append_time import CLOCK_OFFSET
from events.errors import TeoError
from events.log import Log, Membership, Noted, Partition
from events.topics import Topics
from processors.runtime.footing import TopicWatch
from processors.runtime.log_time import Clock
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import LiveState, Owner
from processors.runtime.snapshot_writer import EVENTS_PER_SNAPSHOT
from processors.runtime.waits import queued
from processors.scheduler.state import Pool

ASSIGNMENT_WAIT_S = 0.5
JOIN_BACKOFF_S = 1.0
STATE_S_MAX = 5.0
TELL_EVERY_S = 2.0
"""So often the group is told how the partitions stand."""
GIVE_UP_S = 10.0
"""What an owner gets to close what it has open before it is cancelled once more."""

logger = structlog.get_logger()


class Scheduler:
    """Runs one owner for each partition the group gives to this process."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        clock: Clock,
        meter: Meter,
        *,
        snapshot_every: int = EVENTS_PER_SNAPSHOT,
    ) -> None:
        self._log = log
        self._topics = topics
        self._clock = clock
        self._snapshot_every = snapshot_every
        self._metrics = runtime_metrics(meter)
        self._watch = TopicWatch(log, topics, clock.monotonic_s)
        self._owners: dict[int, tuple[Owner, asyncio.Task[None]]] = {}
        meter.create_observable_gauge(
            CLOCK_OFFSET,
            callbacks=[self._clock_offset],
            unit="s",
            description="By how much the wall clock is ahead of the stamps of inputs",
        )
        meter.create_observable_gauge(
            "teo_scheduler_queue", callbacks=[self._queue], description="Asks that wait, by kind"
        )
        meter.create_observable_gauge(
            "teo_scheduler_reservations", callbacks=[self._reservations], description="Live ones"
        )
        meter.create_observable_gauge(
            "teo_scheduler_executions", callbacks=[self._executions], description="Live ones"
        )
        meter.create_observable_gauge(
            "teo_scheduler_workers_suspended",
            callbacks=[self._suspended],
            description="Workers that get no attempts, by pool",
        )

    @property
    def owners(self) -> dict[int, Owner]:
        """The partitions owned now."""
        return {number: owner for number, (owner, _) in self._owners.items()}

    @property
    def is_ready(self) -> bool:
        """True if every partition it owns is recovered."""
        return all(owner.ledger is not None for owner in self.owners.values())

    def standings(self) -> Mapping[str, Mapping[str, object]]:
        """Return how each partition that it owns stands, by number."""
        return {str(number): owner.standing.told() for number, owner in self.owners.items()}

    async def states(self) -> list[LiveState]:
        """Return the live state of each partition it serves now; those that are busy are not in."""
        asked = [asyncio.ensure_future(owner.state()) for owner in self.owners.values()]
        if not asked:
            return []
        done, late = await asyncio.wait(asked, timeout=STATE_S_MAX)
        for future in late:
            future.cancel()
        return sorted((future.result() for future in done), key=lambda state: state.partition)

    async def run(self) -> None:
        """Own partitions until cancelled; then leave the group so that others go on at once."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._member(group)
                except TeoError as error:
                    logger.warning("scheduler.group_failed", code=error.code, error=str(error))
                    await self._give_up_all()
                    await asyncio.sleep(JOIN_BACKOFF_S)

    async def _member(self, group: asyncio.TaskGroup) -> None:
        inputs = [self._topics.commands, self._topics.reports]
        membership = await self._log.join(self._topics.scheduler_group, inputs)
        telling = group.create_task(self._tell(membership))
        try:
            while True:
                await self._follow(membership, group)
        finally:
            telling.cancel()
            try:
                await self._give_up_all()
            finally:  # Also when cancelled once more meanwhile.
                await membership.close()

    async def _tell(self, membership: Membership) -> None:
        """Tell the group how the partitions stand, again and again."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            notes: dict[Partition, Noted] = {}
            for owner in self.owners.values():
                notes |= owner.standing.notes()
            try:
                if notes:
                    await membership.note(notes)
            except TeoError as error:
                logger.debug("scheduler.not_told", code=error.code, error=str(error))

    async def _follow(self, membership: Membership, group: asyncio.TaskGroup) -> None:
        assigned = await membership.assigned(wait_s=ASSIGNMENT_WAIT_S)
        for number in [each for each, (_, task) in self._owners.items() if task.done()]:
            # It never does; but a partition without an owner would stand still, and nobody know.
            logger.error("partition.owner_ended", partition=number)
            del self._owners[number]
        for number in sorted(self._owners.keys() - assigned):
            logger.info("partition.given_up", partition=number)
            await self._give_up(number)
        for number in sorted(assigned - self._owners.keys()):
            logger.info("partition.taken", partition=number)
            owner = Owner(
                self._log,
                self._topics,
                number,
                self._clock,
                self._metrics,
                snapshot_every=self._snapshot_every,
                watch=self._watch,
            )
            self._owners[number] = (owner, group.create_task(owner.run()))

    async def _give_up(self, number: int) -> None:
        _, task = self._owners.pop(number)
        # More than once: whatever an owner waits for may swallow a cancel, and go on.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GIVE_UP_S)

    async def _give_up_all(self) -> None:
        for number in sorted(self._owners):
            await self._give_up(number)

    def _clock_offset(self, _: CallbackOptions) -> list[Observation]:
        ahead_s = self._clock.wall.ahead_s
        return [] if ahead_s is None else [Observation(ahead_s)]

    def _pools(self) -> list[Pool]:
        ledgers = (owner.ledger for owner in self.owners.values())
        return [pool for ledger in ledgers if ledger for pool in ledger.pools.values()]

    def _queue(self, _: CallbackOptions) -> list[Observation]:
        return [
            Observation(count, {"pool": pool.name, "kind": kind})
            for pool in self._pools()
            for kind, count in queued(pool).items()
        ]

    def _reservations(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(len(p.reservations), {"pool": p.name}) for p in self._pools()]

    def _suspended(self, _: CallbackOptions) -> list[Observation]:
        return [
            Observation(sum(bool(w.suspended) for w in pool.workers.values()), {"pool": pool.name})
            for pool in self._pools()
        ]

    def _executions(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(len(p.executions), {"pool": p.name}) for p in self._pools()]
