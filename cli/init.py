"""`teo init`: creates the topics of an environment, or refuses ones that would lose facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from cli.direct import DataDirIfNamed, kafka_of, run_direct
from cli.problems import Problem
from cli.serve import Kafka, Prefix
from cli.session import Session
from events.errors import TeoError, TopicMissing
from events.topics import FLUSH_KEY, PARTITIONS_DEFAULT, Durability, Topics, TopicSpec, specs

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
        int | None,
        typer.Option(
            min=1,
            max=512,
            help="Of every topic; fixed from then on. What topics have that are there, else 8.",
            show_default=False,
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Copies of each partition; 3 also asks for two at each write. What topics have "
            "that are there, else 1.",
            show_default=False,
        ),
    ] = None,
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
    from events.kafka.admin import ensure_topics, shape_of, wait_for_broker
    from events.kafka.durability import keep_facts
    from events.kafka.mending import mend_settings

    topics = Topics(topic_prefix)

    async def create() -> Created:
        async with kafka_of(None if data_dir else kafka, data_dir) as bootstrap:
            await wait_for_broker(bootstrap, wait_s=BROKER_WAIT_S)
            there = await shape_of(bootstrap, topics)
            if there is None and (mend or make_missing):
                raise TopicMissing(f"no topic of prefix {topic_prefix} is there: nothing to mend")
            copies = replication or (there[1] if there else 1)
            wanted = _wanted(topics, partitions or (there[0] if there else None), copies)
            if mend:
                for name, changes in (await mend_settings(bootstrap, wanted)).items():
                    for key, value in changes.items():
                        session.screen.note(f"{name}: {key} set to {value}")
            made = await ensure_topics(
                bootstrap, wanted, replication=copies, make_missing=make_missing or ()
            )
            chosen = durability or ("disk" if copies == 1 else None)
            changed = await keep_facts(bootstrap, wanted, chosen) if chosen else frozenset()
            return Created(wanted=wanted, made=made, changed=changed, durability=chosen)

    try:
        created = run_direct(create())
    except TeoError as error:
        raise Problem(str(error), exit_code=3) from error
    _tell(session, created)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What topics there are now, and what was done for that."""

    wanted: Sequence[TopicSpec]
    made: frozenset[str]
    changed: frozenset[str]
    durability: Durability | None


def _wanted(topics: Topics, partitions: int | None, copies: int) -> Sequence[TopicSpec]:
    min_insync = 2 if copies > 2 else 1
    return specs(topics, partitions=partitions or PARTITIONS_DEFAULT, min_insync=min_insync)


def _tell(session: Session, created: Created) -> None:
    for spec in created.wanted:
        done = "created" if spec.name in created.made else "is there and safe"
        session.screen.note(f"{spec.name}: {done}, {spec.partitions} partitions")
    if created.durability is not None:
        session.screen.note(f"acknowledged facts are {MEANING[created.durability]}")
        for name in sorted(created.changed - created.made):
            session.screen.note(f"  changed for that: {FLUSH_KEY} of {name}")
