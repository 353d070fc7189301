"""`teo init`: creates the topics of an environment, or refuses ones that would lose facts."""

from collections.abc import Mapping
from typing import Annotated

import typer

from cli.direct import run_direct
from cli.problems import Problem
from cli.serve import Kafka, Prefix
from cli.session import Session
from events.errors import TeoError
from events.topics import FLUSH_KEY, Durability

BROKER_WAIT_S = 60.0
MEANING: Mapping[Durability, str] = {
    "disk": "on the disk of the broker (--durability disk)",
    "memory": "in the memory of the broker for up to half a minute (--durability memory): "
    "a power cut takes what is on no other broker",
}


def init(
    session: Session,
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
    partitions: Annotated[
        int, typer.Option(min=1, max=512, help="Of every topic; fixed from then on.")
    ] = 8,
    replication: Annotated[
        int,
        typer.Option(min=1, help="Copies of each partition; 3 also asks for two at each write."),
    ] = 1,
    durability: Annotated[
        Durability | None,
        typer.Option(
            envvar="TEO_DURABILITY",
            metavar="disk|memory",
            help="Facts are on the broker's disk, or in its memory, when they are acknowledged. "
            "With one copy: disk unless told otherwise; with more: left as it is.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Create the topics, or check those that are there."""
    from events.kafka.admin import ensure_topics, wait_for_broker
    from events.kafka.durability import keep_facts
    from events.topics import Topics, specs

    min_insync = 2 if replication > 2 else 1
    wanted = specs(Topics(topic_prefix), partitions=partitions, min_insync=min_insync)
    if durability is None and replication == 1:
        durability = "disk"

    async def create() -> tuple[frozenset[str], frozenset[str]]:
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        made = await ensure_topics(kafka, wanted, replication=replication)
        if durability is None:
            return made, frozenset()
        return made, await keep_facts(kafka, wanted, durability)

    try:
        made, changed = run_direct(create())
    except TeoError as error:
        raise Problem(str(error), exit_code=3) from error
    for spec in wanted:
        done = "created" if spec.name in made else "is there and safe"
        session.screen.note(f"{spec.name}: {done}, {spec.partitions} partitions")
    if durability is not None:
        session.screen.note(f"acknowledged facts are {MEANING[durability]}")
        for name in sorted(changed - made):
            session.screen.note(f"  changed for that: {FLUSH_KEY} of {name}")
    return 0
