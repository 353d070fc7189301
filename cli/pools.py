"""`teo pool`: shows pools."""

from cli.client import Json
from cli.command import group
from cli.render import Column, field, plain, show_list
from cli.session import Session

_COLUMNS: list[Column] = [
    ("POOL", field("pool")),
    ("BENCHES", lambda item: plain((item.get("benches") or {}).get("total"))),
    ("STATES", lambda item: _states(item)),
    ("WORKERS", field("workers")),
    ("RUNNING", field("executions_active")),
    ("RUNS QUEUED", field("executions_queued")),
    ("RESERVATIONS QUEUED", field("reservations_queued")),
]


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


app = group("Show pools.", list=list_)


def _states(item: Json) -> str:
    by_state = (item.get("benches") or {}).get("by_state") or {}
    return plain(", ".join(f"{count} {state}" for state, count in by_state.items() if count))
