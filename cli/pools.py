"""`teo pool`: shows pools."""

from typing import Annotated

import typer

from cli import durations
from cli.client import Json
from cli.command import group
from cli.problems import no_pool
from cli.render import Column, field, plain, show_list, show_one
from cli.session import Session

_COLUMNS: list[Column] = [
    ("POOL", field("pool")),
    ("BENCHES", lambda item: plain((item.get("benches") or {}).get("total"))),
    ("STATES", lambda item: _states(item)),
    ("WORKERS", field("workers")),
    ("RUNNING", field("executions_active")),
    ("RUNS QUEUED", field("executions_queued")),
    ("RESERVATIONS QUEUED", field("reservations_queued")),
    ("SICK PAST", lambda item: _health(item)),
]
_ROWS: list[Column] = [(name.lower(), text) for name, text in _COLUMNS]


def list_(session: Session) -> None:
    """List pools."""
    output = session.output()
    with session.client() as client:
        pools = client.pages("/v1/pools", has_limit=False)
    show_list(
        session.screen,
        pools,
        _COLUMNS,
        output=output,
        empty="no pools: `teo bench apply -f FILE` makes one",
        name="pool",
    )


def show(
    session: Session,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Name of a pool.")],
) -> None:
    """Show one pool."""
    output = session.output()
    with session.client() as client:
        pools = client.pages("/v1/pools", has_limit=False)
        found = next((item for item in pools if item["pool"] == pool), None)
    if found is None:
        raise no_pool(pool)
    show_one(session.screen, found, _ROWS, output=output, name="pool")


app = group("Show pools.", list=list_, show=show)


def _health(item: Json) -> str:
    rule = item.get("health")
    if rule is None:
        return "default"
    return f"{rule['errors_max']} errors in {durations.humanise(rule['window_s'])}"


def _states(item: Json) -> str:
    by_state = (item.get("benches") or {}).get("by_state") or {}
    return plain(", ".join(f"{count} {state}" for state, count in by_state.items() if count))
