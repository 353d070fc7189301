"""`teo reserve`, `extend`, `release` and `reservations`: holds benches for a time."""

from collections.abc import Callable
from typing import Annotated

import typer

from cli import arguments, exit_codes
from cli.client import Client, Json, segment
from cli.durations import parse, parse_optional
from cli.follow import QUEUE_POLL_S, queue_text, waits_for
from cli.problems import Problem
from cli.render import Column, Format, Screen, age, field, plain, show_list, show_one
from cli.session import Session
from cli.signals import Interrupted, Interrupts

_COLUMNS: list[Column] = [
    ("ID", field("id")),
    ("POOL", field("pool")),
    ("STATUS", field("status")),
    ("BENCHES", lambda item: _benches(item)),
    ("OWNER", field("owner")),
    ("AGE", lambda item: age(item.get("requested_at"))),
    ("UNTIL", field("lease_until")),
]
_ROWS: list[Column] = [
    ("id", field("id")),
    ("status", field("status")),
    ("reason", lambda item: plain(waits_for(item) or item.get("code"))),
    ("pool", field("pool")),
    ("benches", lambda item: _benches(item)),
    ("selectors", lambda item: plain(" & ".join(item.get("selectors") or ()))),
    ("queue place", field("queue_position")),
    ("priority", field("priority")),
    ("owner", field("owner")),
    ("requested", field("requested_at")),
    ("granted", field("granted_at")),
    ("until", field("lease_until")),
    ("ended", field("ended_at")),
]


def reserve(
    session: Session,
    selectors: arguments.Selectors = None,
    further: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="SELECTOR", help="One more bench, granted together."),
    ] = None,
    pool: arguments.Pool = None,
    duration: Annotated[str, typer.Option(help="How long to hold it once granted.")] = "30m",
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until granted.")] = True,
    wait_timeout: Annotated[str | None, typer.Option(help="Longest wait for a bench.")] = None,
) -> int:
    """Reserve a bench that has all labels given with -l; several with --with, all or nothing."""
    output = session.output()
    wanted = [arguments.selector(selectors)]
    wanted += [arguments.selector([text], name="--with") for text in further or []]
    body: Json = {
        "selectors": wanted,
        "duration_s": parse(duration, name="--duration"),
        "wait_timeout_s": parse_optional(wait_timeout, name="--wait-timeout"),
        "priority": priority,
    }
    with session.client() as client, Interrupts() as interrupts:
        body = {"pool": session.pool(client, pool), **body}
        reservation: Json | None = None
        try:
            # A signal must not come between the server's yes and our knowing the id.
            with interrupts.shielded():
                reservation = client.write("POST", "/v1/reservations", body)
            if wait and reservation["status"] == "queued":
                reservation = _wait(client, session.screen, reservation)
        except Interrupted as interrupt:
            if reservation is not None:
                _give_back(client, session.screen, reservation["id"])
            return exit_codes.of_signal(interrupt.number)
    show_reservation(session.screen, reservation, output=output)
    if reservation["status"] == "queued":
        return 0
    return exit_codes.of_reservation(reservation["status"], reservation.get("code"))


def extend(
    session: Session,
    reservation: arguments.ReservationId,
    duration: Annotated[str, typer.Option(help="How much longer.")],
) -> None:
    """Make a reservation's lease longer."""
    output = session.output()
    reservation_id = arguments.reservation_id(reservation)
    body: Json = {"duration_s": parse(duration, name="--duration")}
    with session.client() as client:
        answer = client.write("POST", f"/v1/reservations/{segment(reservation_id)}/extend", body)
    show_reservation(session.screen, answer, output=output)


def release(session: Session, reservation: arguments.ReservationId) -> None:
    """Give a reservation's benches back, or stop waiting for them."""
    output = session.output()
    reservation_id = arguments.reservation_id(reservation)
    with session.client() as client:
        answer = client.write("DELETE", f"/v1/reservations/{segment(reservation_id)}")
    if output == "table":
        session.screen.note(f"{reservation_id} is {answer['status']}")
    else:
        show_reservation(session.screen, answer, output=output)


def reservations(
    session: Session,
    pool: arguments.Pool = None,
    in_status: Annotated[str | None, typer.Option("--status", help="Only in this status.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
) -> None:
    """List reservations."""
    output = session.output()
    filters = {"pool": pool, "status": in_status, "owner": owner}
    with session.client() as client:
        page = client.pages("/v1/reservations", filters, limit=limit)
    show_list(session.screen, page, _COLUMNS, output=output, empty="no reservations: `teo reserve`")
    if page.has_more and output == "table":
        session.screen.note(f"the first {limit} are shown; more with --limit")


def show_reservation(screen: Screen, reservation: Json, *, output: Format) -> None:
    """Print one reservation."""
    rows = [row for row in _ROWS if row[1](reservation) != "-" or row[0] == "status"]
    show_one(screen, reservation, rows, output=output)


def _wait(client: Client, screen: Screen, reservation: Json) -> Json:
    with screen.spinner(queue_text(reservation)) as spinner:
        return _poll(client, reservation, spinner.update)


def _poll(client: Client, reservation: Json, say: Callable[[str], None]) -> Json:
    reservation_id = reservation["id"]
    try:
        while reservation["status"] == "queued":
            say(queue_text(reservation))
            reservation = client.get(
                f"/v1/reservations/{segment(reservation_id)}",
                {"until": "granted"},
                wait_s=QUEUE_POLL_S,
                is_following=True,
            )
    except Problem as problem:
        problem.next_step = (
            f"{reservation_id} may still wait: `teo status {reservation_id}`, "
            f"`teo release {reservation_id}`"
        )
        raise
    return reservation


def _give_back(client: Client, screen: Screen, reservation_id: str) -> None:
    """Stop waiting on the server too: nobody would use the bench that comes later."""
    try:
        client.write("DELETE", f"/v1/reservations/{segment(reservation_id)}")
        screen.note(f"\n{reservation_id} is given back")
    except Problem as problem:
        screen.complain(f"teo: {reservation_id} may still wait: {problem}")
    except Interrupted:
        screen.complain(f"teo: {reservation_id} may still wait: `teo release {reservation_id}`")


def _benches(item: Json) -> str:
    return plain(",".join(str(grant["bench"]) for grant in item.get("benches") or ()))
