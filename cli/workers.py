"""`teo worker`: shows workers, has them leave in good order, and has suspended ones back."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from cli import arguments
from cli.client import Client, Json, segment
from cli.command import group
from cli.durations import parse_optional
from cli.exit_codes import ExitCode
from cli.problems import BadUsage, Problem
from cli.render import Column, age, field, plain, show_list, show_one
from cli.session import Session

POLL_S = 0.5
LIFE_CHARS_SHOWN = 8
"""The last ones: the first say when the life began."""
LIVE = ("online", "suspended", "draining")
WAY_BACK = (
    "to have it back, start its process again: by your supervisor, "
    "`docker compose restart worker`, or `teo down` and `teo up`"
)

WorkerName = Annotated[str, typer.Argument(metavar="WORKER", help="Id of a worker.")]

_COLUMNS: list[Column] = [
    ("WORKER", field("worker")),
    ("POOL", field("pool")),
    ("STATE", field("state")),
    ("EPOCH", field("epoch")),
    ("LIFE", lambda item: plain(str(item.get("life") or "")[-LIFE_CHARS_SHOWN:])),
    ("HOST", field("host")),
    ("SLOTS", lambda item: f"{item.get('slots_used', 0)}/{item.get('slots')}"),
    ("ADAPTERS", lambda item: plain(",".join(item.get("adapters") or ()))),
    ("BENCHES", lambda item: _benches(item)),
    ("VERSION", field("version")),
    ("SINCE", lambda item: age(item.get("since"))),
    ("REASON", field("reason")),
]


def list_(
    session: Session,
    pool: arguments.Pool = None,
    state: Annotated[
        str | None, typer.Option(help="online, suspended, draining, lost, gone; by commas.")
    ] = None,
) -> None:
    """List workers: the life each is in, how many of its slots are used, what it serves."""
    output = session.output()
    with session.client() as client:
        workers = client.pages("/v1/workers", {"pool": pool, "state": state})
    empty = "no worker matches" if pool or state else "no workers: start one: `teo serve worker`"
    show_list(session.screen, workers, _COLUMNS, output=output, empty=empty, name="worker")
    if output == "table":
        for item in workers:
            if item.get("refused"):
                session.screen.note(f"{plain(item['worker'])}: {_refused(item)}")


def show(session: Session, worker: WorkerName, pool: arguments.Pool = None) -> None:
    """Show a worker: the life it is in, where it runs, and who else asked for its id."""
    output = session.output()
    with session.client() as client:
        in_pool = pool or _pool_of(client, worker, states=None)
        found = client.get(f"/v1/pools/{segment(in_pool)}/workers/{segment(worker)}")
    rows = [*_COLUMNS, ("REFUSED", _refused)]
    show_one(session.screen, found, rows, output=output, name="worker")


def resume(
    session: Session,
    worker: WorkerName,
    pool: arguments.Pool = None,
    reason: Annotated[str, typer.Option(help="What was mended, for the record.")] = "",
) -> None:
    """Let a worker have attempts again that was suspended because its own faults piled up."""
    output = session.output()
    with session.client() as client:
        in_pool = pool or _pool_of(client, worker)
        path = f"/v1/pools/{segment(in_pool)}/workers/{segment(worker)}/resume"
        answer = client.write("POST", path, {"reason": reason})
    if output == "table":
        session.screen.note(f"{plain(worker)} is {plain(answer['state'])}")
    else:
        show_one(session.screen, answer, _COLUMNS, output=output, name="worker")


def drain(
    session: Session,
    worker: WorkerName,
    pool: arguments.Pool = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks at it next.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has left.")] = False,
    timeout: Annotated[str | None, typer.Option(help="Longest wait for it to leave.")] = None,
) -> None:
    """Give a worker nothing more; it leaves once it runs nothing, however long that takes."""
    output = session.output()
    limit_s = parse_optional(timeout, name="--timeout")
    with session.client() as client:
        in_pool = pool or _pool_of(client, worker)
        path = f"/v1/pools/{segment(in_pool)}/workers/{segment(worker)}"
        found = client.write("POST", f"{path}/drain", {"reason": reason})
        if wait:
            found = _left(client, path, found, limit_s=limit_s)
    if output == "table":
        used = found.get("slots_used", 0)
        runs = f"; it still runs {used}" if found["state"] == "draining" and used else ""
        session.screen.note(f"{plain(worker)} is {plain(found['state'])}{runs}")
        session.screen.note(f"  next: {WAY_BACK}")
    else:
        show_one(session.screen, found, _COLUMNS, output=output, name="worker")


app = group("Show, drain and resume workers.", list=list_, show=show, drain=drain, resume=resume)


def _refused(item: Json) -> str:
    """Return who else asked to be this worker, if anybody did."""
    refused = item.get("refused")
    if not refused:
        return "-"
    where = f" on {refused['host']}" if refused.get("host") else ""
    return plain(
        f"a process{where} asked for this id {age(refused.get('at'))} ago and was refused: "
        "it runs already; give that one another --id"
    )


def _pool_of(client: Client, worker: str, *, states: Sequence[str] | None = LIVE) -> str:
    """Return the pool of the worker of this id. Raises `BadUsage` unless there is one."""
    found = client.pages("/v1/workers", {"state": ",".join(states) if states else None})
    pools = sorted(str(item["pool"]) for item in found if item["worker"] == worker)
    if len(pools) == 1:
        return pools[0]
    if pools:
        raise BadUsage(
            f"worker {worker} is in {len(pools)} pools: {', '.join(pools)}",
            next_step="say which with --pool",
        )
    raise BadUsage(
        f"there is no {'live ' if states else ''}worker {worker}",
        next_step="see which there are with `teo worker list`",
    )


def _left(client: Client, path: str, found: Json, *, limit_s: float | None) -> Json:
    end_s = None if limit_s is None else time.monotonic() + limit_s
    while found["state"] in LIVE:
        if end_s is not None and time.monotonic() > end_s:
            raise Problem(
                f"{found['worker']} still runs {found.get('slots_used', 0)} attempts",
                next_step="it goes on draining; look with `teo worker list`",
                exit_code=ExitCode.WAIT_TIMED_OUT,
            )
        time.sleep(POLL_S)
        found = client.get(path, is_following=True)
    return found


def _benches(item: Json) -> str:
    return plain(",".join(item.get("benches") or ()) or "any")
