"""`teo serve scheduler|worker|api|watcher`: one role in this process, until a signal ends it."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli.command import group
from cli.folders import home
from events.topics import Durability

_SHARE = os.environ.get("XDG_DATA_HOME")
DATA_DIR = (Path(_SHARE) if _SHARE else home() / ".local" / "share") / "teo"
PORT_MAX = 65_535

Kafka = Annotated[
    str, typer.Option("--kafka", envvar="TEO_KAFKA", help="Bootstrap address, HOST:PORT,…")
]
Prefix = Annotated[
    str, typer.Option("--topic-prefix", envvar="TEO_TOPIC_PREFIX", help="Prefix of all topics.")
]
Durable = Annotated[
    Durability,
    typer.Option(
        "--durability",
        envvar="TEO_DURABILITY",
        metavar="disk|memory",
        help="Facts are on the broker's disk, or in its memory, when they are acknowledged.",
    ),
]
Host = Annotated[str, typer.Option("--host", envvar="TEO_HOST", help="Address to listen on.")]
HealthPort = Annotated[
    int,
    typer.Option(
        "--health-port",
        envvar="TEO_HEALTH_PORT",
        min=0,
        max=PORT_MAX,
        help="Port of /readyz and /metrics; 0: none.",
    ),
]
Artifacts = Annotated[
    Path, typer.Option("--artifacts", envvar="TEO_ARTIFACTS", help="Folder of kept artifacts.")
]

AllowEnv = Annotated[
    list[str] | None,
    typer.Option(
        envvar="TEO_ALLOW_ENV",
        help="Variable of the worker, or pattern, that a bench may pass on; repeatable.",
    ),
]
AllowDir = Annotated[
    list[Path] | None,
    typer.Option(
        envvar="TEO_ALLOW_DIR",
        help="Folder that benches may name, with all below it; repeatable.",
    ),
]


def scheduler(
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
    host: Host = "127.0.0.1",
    health_port: HealthPort = 0,
    snapshot_every: Annotated[
        int,
        typer.Option(
            min=1, envvar="TEO_SNAPSHOT_EVERY", help="Events of a partition between snapshots."
        ),
    ] = 10_000,
) -> None:
    """Decide commands and reports: assign benches, take executions through their steps."""
    from cli.process import run_role
    from cli.roles import scheduler_role

    run_role(
        "scheduler",
        scheduler_role(
            kafka=kafka,
            prefix=topic_prefix,
            host=host,
            health_port=health_port,
            snapshot_every=snapshot_every,
        ),
    )


def worker(
    worker_id: Annotated[
        str,
        typer.Option(
            "--id",
            envvar="TEO_WORKER",
            help="Name of the worker, kept for ever; one process has it.",
        ),
    ] = socket.gethostname(),
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", envvar="TEO_WORKER_POOLS", help="Pool to serve; repeatable."),
    ] = None,
    bench: Annotated[
        list[str] | None,
        typer.Option("--bench", help="Bench to serve; repeatable. None: all with its adapters."),
    ] = None,
    all_pools: Annotated[
        bool, typer.Option("--all-pools", help="Serve every pool, also those to come.")
    ] = False,
    slots: Annotated[
        int, typer.Option(min=1, envvar="TEO_SLOTS", help="Attempts at once, for each pool.")
    ] = 4,
    drain: Annotated[
        str, typer.Option(envvar="TEO_DRAIN", help="What runs gets this long after SIGTERM.")
    ] = "10m",
    state_dir: Annotated[
        Path, typer.Option(envvar="TEO_STATE_DIR", help="Folder for what outlives the process.")
    ] = DATA_DIR / "worker",
    forget_fences: Annotated[
        bool,
        typer.Option(
            "--forget-fences",
            help="Forget which fences of benches it saw: the log was begun anew on purpose.",
        ),
    ] = False,
    artifacts: Artifacts = DATA_DIR / "artifacts",
    allow_env: AllowEnv = None,
    allow_dir: AllowDir = None,
    deny_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder no bench may name, whatever is allowed; repeatable."),
    ] = None,
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
    host: Host = "127.0.0.1",
    health_port: HealthPort = 0,
) -> None:
    """Run attempts on benches, through the adapters that are installed."""
    from adapters.grammar import wrong_name
    from cli.arguments import refuse
    from cli.durations import parse
    from cli.process import run_role
    from cli.roles import WorkerRole, worker_role

    refuse(wrong_name(worker_id, "worker"), name="--id")
    pools = _pools(pool or (), all_pools=all_pools)
    role = WorkerRole(
        worker=worker_id,
        pools=pools,
        benches=tuple(bench or ()),
        slots=slots,
        state_dir=state_dir,
        artifacts=artifacts,
        kafka=kafka,
        prefix=topic_prefix,
        host=host,
        health_port=health_port,
        drain_s=parse(drain, name="--drain"),
        forget_fences=forget_fences,
        allow_env=tuple(allow_env or ()),
        allow_dirs=tuple(allow_dir or ()),
        deny_dirs=tuple(deny_dir or ()),
    )
    run_role("worker", worker_role(role))


def _pools(given: Sequence[str], *, all_pools: bool) -> tuple[str, ...]:
    """Return the pools to serve, each once. A pool from before there was a grammar keeps its name.

    Raises `BadUsage` if there are none, or as well as all, or one that cannot be.
    """
    from adapters.grammar import shown
    from cli.problems import BadUsage

    pools = tuple(dict.fromkeys(name for item in given for name in item.split(",")))
    if bool(pools) == all_pools:
        raise BadUsage(
            "a worker serves either named pools or all of them",
            next_step="give --pool NAME (repeatable), or --all-pools",
        )
    for name in pools:
        if not name or not name.isprintable():
            raise BadUsage(
                f"--pool: {shown(name)} is no name of a pool",
                next_step="`teo pool list` shows which there are",
            )
    return pools


def api(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="TEO_PORT", min=0, max=PORT_MAX, help="Port to listen on.")
    ] = 8642,
    tokens: Annotated[
        Path, typer.Option(envvar="TEO_TOKENS", help="Token file, mode 0600.")
    ] = DATA_DIR / "tokens.json",
    database: Annotated[
        Path, typer.Option(envvar="TEO_DATABASE", help="SQLite file of the read models.")
    ] = DATA_DIR / "projections.sqlite",
    artifacts: Artifacts = DATA_DIR / "artifacts",
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
) -> None:
    """Serve the HTTP API and the dashboard."""
    from cli.process import run_role
    from cli.roles import ApiRole, api_role

    role = ApiRole(
        host=host,
        port=port,
        tokens=tokens,
        database=database,
        artifacts=artifacts,
        kafka=kafka,
        prefix=topic_prefix,
    )
    run_role("api", api_role(role))


def watcher(
    kafka: Kafka = "127.0.0.1:9092",
    topic_prefix: Prefix = "teo",
    host: Host = "127.0.0.1",
    health_port: HealthPort = 0,
) -> None:
    """Watch the benches: one that gives infrastructure errors too often is quarantined."""
    from cli.process import run_role
    from cli.roles import watcher_role

    run_role(
        "watcher",
        watcher_role(kafka=kafka, prefix=topic_prefix, host=host, health_port=health_port),
    )


app = group(
    "Run one role in this process.", scheduler=scheduler, worker=worker, api=api, watcher=watcher
)
