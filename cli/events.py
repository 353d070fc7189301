"""`teo events`: follows the journal's events; never decides anything from them."""

import json
from contextlib import closing
from typing import Annotated, Any

import typer

from cli import arguments
from cli.client import Json
from cli.command import group
from cli.problems import BadUsage
from cli.render import Format, Screen, plain
from cli.session import Session

_SUBJECTS = ("execution_id", "reservation_id", "bench", "worker")
_DETAILS = ("verdict", "status", "state", "step", "code", "reason")


def tail(
    session: Session,
    pool: arguments.Pool = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    start: Annotated[str, typer.Option("--from", help="now or beginning.")] = "now",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Leave after so many.")
    ] = None,
) -> None:
    """Print events as they happen; -o json prints one object a line."""
    output = session.output(("table", "json"))
    if start not in ("now", "beginning"):
        raise BadUsage(f"--from {start!r} is no place", next_step="use now or beginning")
    params = {"pool": pool, "type": event_type, "from": start}
    seen = 0
    with session.client() as client, closing(client.stream("/v1/events", params)) as events:
        for event in events:
            if not event.data:
                continue
            body: Any = json.loads(event.data)
            if not isinstance(body, dict) or "meta" not in body:
                continue
            _show(session.screen, event.data, body, output=output)
            seen += 1
            if seen == count:
                return


app = group("Follow what happens.", tail=tail)


def _show(screen: Screen, raw: str, body: Json, *, output: Format) -> None:
    screen.print(raw if output == "json" else _line(screen, body))
    screen.out.flush()


def _line(screen: Screen, body: Json) -> str:
    meta, data = body["meta"], body.get("data") or {}
    subject = next((plain(data[name]) for name in _SUBJECTS if data.get(name)), "-")
    details = [f"{name}={plain(data[name])}" for name in _DETAILS if data.get(name)]
    head = f"{plain(meta.get('occurred_at')):27}  {plain(meta.get('pool')):12}"
    kind = screen.paint(f"{plain(body.get('type')):24}", "cyan")
    return f"{head}  {kind}  {subject}  {' '.join(details)}".rstrip()
