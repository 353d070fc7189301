"""`teo queue`: what waits for a bench, in the order it will be served."""

from cli import arguments
from cli.client import Json
from cli.follow import waits_for
from cli.render import Column, age, field, plain, show_list
from cli.session import Session

_LAST = 1_000_000_000

_COLUMNS: list[Column] = [
    ("POOL", field("pool")),
    ("PLACE", field("queue_position")),
    ("ID", field("id")),
    ("PRIORITY", field("priority")),
    ("WANTS", lambda item: _wants(item)),
    ("OWNER", field("owner")),
    ("WAITS", lambda item: age(_asked_at(item))),
    ("REASON", lambda item: plain(waits_for(item))),
]


def queue(session: Session, pool: arguments.Pool = None) -> None:
    """Show the reservations and executions that wait, first the one that is served first."""
    output = session.output()
    filters = {"pool": pool, "status": "queued"}
    with session.client() as client:
        waiting: list[Json] = [
            *client.pages("/v1/reservations", filters),
            *client.pages("/v1/executions", filters),
        ]
    waiting.sort(key=_order)
    show_list(session.screen, waiting, _COLUMNS, output=output, empty="nothing waits")


def _order(item: Json) -> tuple[str, int, int, str]:
    place = item.get("queue_position")
    return (
        str(item.get("pool")),
        _LAST if place is None else int(place),
        -int(item.get("priority") or 0),
        _asked_at(item),
    )


def _asked_at(item: Json) -> str:
    return str(item.get("requested_at") or item.get("created_at") or "")


def _wants(item: Json) -> str:
    selectors = item.get("selectors") or [item.get("selector") or ""]
    return plain(" & ".join(selector or "any" for selector in selectors))
