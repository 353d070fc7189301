"""`teo worker`: shows workers."""

from cli import arguments
from cli.command import group
from cli.render import Column, age, field, plain, show_list
from cli.session import Session

_COLUMNS: list[Column] = [
    ("WORKER", field("worker")),
    ("POOL", field("pool")),
    ("STATE", field("state")),
    ("EPOCH", field("epoch")),
    ("SLOTS", field("slots")),
    ("ADAPTERS", lambda item: plain(",".join(item.get("adapters") or ()))),
    ("BENCHES", lambda item: plain(",".join(item.get("benches") or ()))),
    ("VERSION", field("version")),
    ("SINCE", lambda item: age(item.get("since"))),
]


def list_(session: Session, pool: arguments.Pool = None) -> None:
    """List workers."""
    output = session.output()
    with session.client() as client:
        workers = client.pages("/v1/workers", {"pool": pool})
    show_list(
        session.screen,
        workers,
        _COLUMNS,
        output=output,
        empty="no workers: start one with `teo serve worker`",
        name="worker",
    )


app = group("Show workers.", list=list_)
