"""`teo status`, `cancel` and `wait`: looks at executions and ends them; never submits one."""

from typing import Annotated

import typer

from cli import arguments, exit_codes
from cli.client import Json, segment
from cli.durations import parse_optional
from cli.follow import wait_for_end, waits_for
from cli.render import (
    Column,
    Format,
    Screen,
    age,
    elapsed,
    field,
    plain,
    show_list,
    show_one,
    table,
    totals,
    whose_fault,
)
from cli.session import Session
from cli.summary import summary

LATEST_DEFAULT = 20

_COLUMNS: list[Column] = [
    ("ID", field("id")),
    ("POOL", field("pool")),
    ("STATUS", field("status")),
    ("VERDICT", field("verdict")),
    ("BENCH", field("bench")),
    ("OWNER", field("owner")),
    ("AGE", lambda item: age(item.get("created_at"))),
    ("TOOK", lambda item: elapsed(item.get("started_at"), item.get("finished_at"))),
]
_ROWS: list[Column] = [
    ("id", field("id")),
    ("status", field("status")),
    ("verdict", field("verdict")),
    ("reason", lambda item: plain(waits_for(item) or item.get("code"))),
    ("whose fault", whose_fault),
    ("pool", field("pool")),
    ("bench", field("bench")),
    ("selector", field("selector")),
    ("reservation", field("reservation_id")),
    ("queue place", field("queue_position")),
    ("owner", field("owner")),
    ("command", lambda item: plain(" ".join(map(str, item.get("command") or ())))),
    ("exit code", field("exit_code")),
    ("verdict by", lambda item: _unless_both(item.get("verdict_by"))),
    ("cases", lambda item: totals(item.get("totals"))),
    ("created", field("created_at")),
    ("started", field("started_at")),
    ("finished", field("finished_at")),
    ("took", lambda item: elapsed(item.get("started_at"), item.get("finished_at"))),
]
_ATTEMPT_COLUMNS: list[Column] = [
    ("ATTEMPT", field("number")),
    ("BENCH", field("bench")),
    ("WORKER", field("worker")),
    ("STATUS", field("status")),
    ("VERDICT", field("verdict")),
    ("TOOK", lambda item: elapsed(item.get("started_at"), item.get("finished_at"))),
    ("WHOSE FAULT", whose_fault),
    ("REASON", lambda item: plain(item.get("reason") or item.get("code"))),
]


def status(
    session: Session,
    execution: Annotated[
        str | None, typer.Argument(metavar="[EXE]", help="Id of an execution or reservation.")
    ] = None,
    pool: arguments.Pool = None,
    in_status: Annotated[str | None, typer.Option("--status", help="Only in this status.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only with this verdict.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = LATEST_DEFAULT,
) -> None:
    """Show one execution (or reservation), or the latest executions."""
    output = session.output()
    with session.client() as client:
        if execution is None:
            filters = {"pool": pool, "status": in_status, "verdict": verdict, "owner": owner}
            page = client.pages("/v1/executions", filters, limit=limit)
            show_list(
                session.screen, page, _COLUMNS, output=output, empty="no executions: `teo run`"
            )
            if page.has_more and output == "table":
                session.screen.note(f"the first {limit} are shown; more with --limit")
        elif execution.startswith("res-"):
            from cli.reservations import show_reservation

            reservation_id = arguments.reservation_id(execution)
            answer = client.get(f"/v1/reservations/{segment(reservation_id)}")
            show_reservation(session.screen, answer, output=output)
        else:
            execution_id = arguments.execution_id(execution)
            answer = client.get(f"/v1/executions/{segment(execution_id)}")
            show_execution(session.screen, answer, output=output)


def cancel(
    session: Session,
    execution: arguments.ExecutionId,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
) -> None:
    """Cancel an execution; its bench is cleaned and freed."""
    output = session.output()
    execution_id = arguments.execution_id(execution)
    with session.client() as client:
        answer = client.write(
            "DELETE", f"/v1/executions/{segment(execution_id)}", params={"reason": reason}
        )
    if output != "table":
        show_execution(session.screen, answer, output=output)
    elif answer.get("status") == "finished":
        session.screen.note(f"{execution_id} is {answer.get('verdict')}")
    else:
        session.screen.note(f"{execution_id} is being cancelled; `teo wait {execution_id}`")


def wait(
    session: Session,
    execution: arguments.ExecutionId,
    timeout: Annotated[str | None, typer.Option(help="Give up (exit 7) after this long.")] = None,
) -> int:
    """Wait until an execution has finished, and exit as `teo run` would."""
    output = session.output()
    execution_id = arguments.execution_id(execution)
    timeout_s = parse_optional(timeout, name="--timeout")
    with session.client() as client:
        finished = wait_for_end(client, execution_id, timeout_s=timeout_s)
        if output == "table":
            for line in summary(client, session.screen, finished):
                session.screen.note(line)
        else:
            show_execution(session.screen, finished, output=output)
    return exit_codes.of_execution(
        finished.get("verdict"), finished.get("code"), finished.get("fault")
    )


def _unless_both(verdict_by: object) -> str:
    return "-" if verdict_by in (None, "both") else plain(verdict_by)


def show_execution(screen: Screen, execution: Json, *, output: Format) -> None:
    """Print one execution with its attempts."""
    rows = [row for row in _ROWS if row[1](execution) != "-" or row[0] in ("status", "verdict")]
    show_one(screen, execution, rows, output=output)
    attempts = execution.get("attempts")
    if output == "table" and attempts:
        screen.print("")
        for line in table(screen, attempts, _ATTEMPT_COLUMNS):
            screen.print(line)
