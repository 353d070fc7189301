"""`teo init`: creates the topics of an environment, or refuses ones that would lose facts."""

from typing import Annotated

import typer

from cli.direct import run_direct
from cli.problems import Problem
from cli.serve import Kafka, Prefix
from cli.session import Session
from events.errors import TeoError

BROKER_WAIT_S = 60.0


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
) -> int:
    """Create the topics, or check those that are there."""
    from events.kafka.admin import ensure_topics, wait_for_broker
    from events.topics import Topics, specs

    min_insync = 2 if replication > 2 else 1
    wanted = specs(Topics(topic_prefix), partitions=partitions, min_insync=min_insync)

    async def create() -> frozenset[str]:
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        return await ensure_topics(kafka, wanted, replication=replication)

    try:
        made = run_direct(create())
    except TeoError as error:
        raise Problem(str(error), exit_code=3) from error
    for spec in wanted:
        done = "created" if spec.name in made else "is there and safe"
        session.screen.note(f"{spec.name}: {done}, {spec.partitions} partitions")
    return 0
