"""`teo projections rebuild`: makes the read models anew from the journal, and swaps them in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command import group
from cli.direct import run_direct
from cli.problems import Problem
from cli.serve import DATA_DIR, Kafka, Prefix
from cli.session import Session
from events.errors import TeoError


def rebuild(
    session: Session,
    database: Annotated[
        Path, typer.Option(envvar="TEO_DATABASE", help="SQLite file of the read models.")
    ] = DATA_DIR / "projections.sqlite",
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
) -> int:
    """Rebuild the read models of an API that is stopped."""
    from events.kafka.admin import cluster_id
    from events.kafka.log import KafkaLog
    from events.topics import Topics
    from projections.rebuild import Rebuilt
    from projections.rebuild import rebuild as rebuild_file
    from projections.store import StoreBusy

    under_up = f"`teo down`, delete {database}*, `teo up`: it makes them anew"

    async def work() -> Rebuilt:
        cluster = await cluster_id(kafka)
        async with KafkaLog(kafka, client_id="teo-rebuild") as log:
            return await rebuild_file(log, Topics(topic_prefix), database, cluster=cluster)

    try:
        with session.screen.spinner("rebuilding from the journal"):
            done = run_direct(work())
    except StoreBusy as error:
        raise Problem(
            f"the read model {database} is kept by another process",
            next_step=f"stop that API and try again; under `teo up`: {under_up}",
            exit_code=3,
        ) from error
    except TeoError as error:
        raise Problem(
            str(error),
            next_step=""
            if "; " in str(error)
            else f"try again once Kafka answers; under `teo up`: {under_up}",
            exit_code=3,
        ) from error
    same = "the same as before" if done.before == done.after else "other than before"
    session.screen.note(f"rebuilt from {done.events} events; the read models are {same}")
    return 0


app = group("Rebuild the read models.", rebuild=rebuild)
