"""A pool is decided in one partition, whoever chooses another, and whoever adds partitions."""

import asyncio
from dataclasses import replace

from opentelemetry.metrics import NoOpMeterProvider

from events import facts
from events.log import Outgoing
from processors.runtime.metrics import runtime_metrics
from processors.runtime.owner import Owner
from tests.on_log import asked
from tests.sim.memory_cluster import partition_of
from tests.unit.processors.runtime.test_inputs import decided, messages
from tests.unit.processors.runtime.test_outage import TOPICS, Lab, play
from tests.unit.processors.scheduler.history import benches

MOVES = next(name for name in ("a", "b", "c", "d") if partition_of(name.encode(), 2))
STAYS = next(name for name in ("a", "b", "c", "d") if not partition_of(name.encode(), 2))


def test_an_input_in_a_partition_that_is_not_its_pools_is_set_aside() -> None:
    """As by a client that takes the partition from another hash of the key."""

    async def scene(lab: Lab) -> None:
        lab.cluster.add_partitions(2)
        for pool in (STAYS, MOVES):
            record = asked(TOPICS, f"c-{pool}", benches("b1"), pool=pool)
            lab.put(_in_first(record))
        lab.start()
        found = await lab.settled()
        [aside] = [event for event in found if isinstance(event, facts.InputSetAside)]
        assert (aside.command_id, aside.code) == (f"c-{MOVES}", "misplaced")
        assert decided(lab) == [f"c-{STAYS}"]
        assert len(lab.cluster.all_records(TOPICS.dlq)) == 1

    play(scene)


def test_no_partition_decides_once_others_were_added() -> None:
    """Neither the one that has the pool, nor the one that is given it now."""

    async def scene(lab: Lab) -> None:
        lab.put(asked(TOPICS, "c-first", benches("b1"), pool=MOVES))
        owner = lab.start()
        await lab.settled()
        assert decided(lab) == ["c-first"]
        lab.cluster.add_partitions(2)
        metrics = runtime_metrics(NoOpMeterProvider().get_meter("t"))
        other = Owner(lab.log, TOPICS, 1, lab.clock, metrics)
        task = asyncio.create_task(other.run())
        lab.put(asked(TOPICS, "c-second", benches("b1"), pool=MOVES))
        lab.put(asked(TOPICS, "c-third", benches("b1"), pool=STAYS))
        await lab.settled(8.0)
        for each in (owner, other):
            assert (each.standing.state, each.standing.code) == ("broken", "journal_broken")
            assert "the number of partitions" in each.standing.detail
        assert decided(lab) == ["c-first"]
        assert lab.cluster.records(TOPICS.events, 1) == []
        assert len(messages(lab)) == len(lab.events())
        task.cancel()

    play(scene)


def _in_first(record: Outgoing) -> Outgoing:
    return replace(record, partition=0)
