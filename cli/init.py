"""`teo init`: creates the topics of an environment, or refuses ones that would lose facts."""

from collections.abc import Mapping
from typing import Annotated

import typer

from cli.direct import DataDirIfNamed, kafka_of, run_direct
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
    make_missing: Annotated[
        list[str] | None,
        typer.Option(
            "--make-missing",
            help="Topic that was lost, to be made empty; repeatable. What it held is gone.",
        ),
    ] = None,
    mend: Annotated[
        bool, typer.Option("--mend", help="Set the settings that would lose facts.")
    ] = False,
    data_dir: DataDirIfNamed = None,
) -> int:
    """Create the topics, or check those that are there."""
    from events.kafka.admin import ensure_topics, wait_for_broker
    from events.kafka.durability import keep_facts
    from events.kafka.mending import mend_settings
    from events.topics import Topics, specs

    min_insync = 2 if replication > 2 else 1
    wanted = specs(Topics(topic_prefix), partitions=partitions, min_insync=min_insync)
    if durability is None and replication == 1:
        durability = "disk"

    async def create() -> tuple[frozenset[str], frozenset[str]]:
        async with kafka_of(None if data_dir else kafka, data_dir) as bootstrap:
            await wait_for_broker(bootstrap, wait_s=BROKER_WAIT_S)
            if mend:
                for name, changes in (await mend_settings(bootstrap, wanted)).items():
                    for key, value in changes.items():
                        session.screen.note(f"{name}: {key} set to {value}")
            made = await ensure_topics(
                bootstrap, wanted, replication=replication, make_missing=make_missing or ()
            )
            if durability is None:
                return made, frozenset()
            return made, await keep_facts(bootstrap, wanted, durability)

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
