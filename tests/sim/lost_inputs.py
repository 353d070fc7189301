"""Topics of inputs in the simulation that are made anew, or lose their newest records."""

import asyncio
import random
from collections.abc import Iterable

from events.codec import decode_command
from events.errors import Undecodable
from events.log import Partition, Record
from tests.sim.world import TOPICS, World


async def lose_inputs(world: World, *, strikes: int) -> None:
    """Take commands away, now and then; two thirds of the seeds are left alone.

    Reports are left alone: a worker whose last word is lost is waited for for a quarter of an hour.
    """
    dice = random.Random(f"inputs/{world.seed}")
    for _ in range(strikes if dice.random() < 0.34 else 0):
        await asyncio.sleep(dice.uniform(1.0, 12.0))
        if dice.random() < 0.5:
            world.count("topic_anew")
            lost = world.cluster.make_anew(TOPICS.commands)
        else:
            world.count("topic_shortened")
            number = dice.randrange(world.cluster.partitions)
            partition = Partition(TOPICS.commands, number)
            lost = world.cluster.shorten(partition, dice.randint(1, 6))
            world.cluster.leave(dice.choice([0.0, 0.0, 2.0]))
        world.lost |= command_ids(lost)


def command_ids(records: Iterable[Record]) -> set[str]:
    """Return the ids of the commands among `records`: who asked may never get an outcome."""
    found: set[str] = set()
    for record in records:
        try:
            found.add(decode_command(record.value).meta.command_id)
        except Undecodable:
            continue
    return found
