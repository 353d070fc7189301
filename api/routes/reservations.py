"""Reservations: asking for benches, holding them, giving them back."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from api.answering import command_answer, list_answer, new_subject, until
from api.auth.principal import Role
from api.call import Call
from api.encoding import json_response
from api.models.answers import Items, Reservation
from api.models.queries import ReservationQuery, ReservationsQuery
from api.models.requests import ExtendBody, ReservationBody
from api.operations import Operation
from api.problems import not_found
from api.routes.benches import words
from api.routes.pools import pool_or_only
from events.commands import (
    Command,
    ExtendReservation,
    ReleaseReservation,
    RequestReservation,
)
from projections.rows import ReservationFilter, ReservationRow


async def request_reservation(call: Call) -> Response:
    """Ask for benches; answered at once, granted or waiting."""
    body = call.body_as(ReservationBody)
    pool = await pool_or_only(call.service.reads, body.pool)
    command = RequestReservation(
        reservation_id=new_subject(call, "res"),
        selectors=tuple(body.selectors),
        duration_s=body.duration_s,
        wait_timeout_s=body.wait_timeout_s,
        priority=body.priority,
    )
    return await command_answer(
        call, pool, command, _reader(call), status=201, location="/v1/reservations"
    )


async def list_reservations(call: Call) -> Response:
    """Reservations, newest first."""
    query = call.query_as(ReservationsQuery)
    which = ReservationFilter(pool=query.pool, statuses=words(query.status), owner=query.owner)
    return await list_answer(
        call, Reservation, lambda part: call.service.reads.reservations(which, part)
    )


async def get_reservation(call: Call) -> Response:
    """One reservation, now or once it is granted or ended."""
    query = call.query_as(ReservationQuery)

    def is_reached(row: ReservationRow) -> bool:
        return row.status != "queued" if query.until == "granted" else row.ended_at is not None

    row = await until(
        call, call.path("id"), lambda: _reservation(call), is_reached, wait_s=query.wait_s
    )
    return json_response(Reservation.model_validate(row))


async def extend_reservation(call: Call) -> Response:
    """Move the end of a lease."""
    duration_s = call.body_as(ExtendBody).duration_s
    return await _change(
        call, ExtendReservation(reservation_id=call.path("id"), duration_s=duration_s)
    )


async def release_reservation(call: Call) -> Response:
    """Give the benches back, or take back an ask that waits."""
    return await _change(call, ReleaseReservation(reservation_id=call.path("id")))


async def _reservation(call: Call) -> ReservationRow:
    row = await call.service.reads.reservation(call.path("id"))
    if row is None:
        hint = "`teo reservations` lists those there are"
        raise not_found("reservation", call.path("id"), hint=hint)
    return row


async def _change(call: Call, command: Command) -> Response:
    row = await _reservation(call)
    return await command_answer(call, row.pool, command, _reader(call))


def _reader(call: Call) -> Callable[[str], Awaitable[Reservation | None]]:
    async def read(subject_id: str) -> Reservation | None:
        row = await call.service.reads.reservation(subject_id)
        return None if row is None else Reservation.model_validate(row)

    return read


_TAG = "Reservations"

OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/reservations",
        name="requestReservation",
        summary="Ask for benches",
        handler=request_reservation,
        tag=_TAG,
        role=Role.user,
        body=ReservationBody,
        is_body_optional=True,
        answer=Reservation,
        status=201,
        is_command=True,
        problems=(404, 409, 422),
    ),
    Operation(
        method="GET",
        path="/v1/reservations",
        name="listReservations",
        summary="List reservations",
        handler=list_reservations,
        tag=_TAG,
        query=ReservationsQuery,
        answer=Items[Reservation],
        problems=(422,),
    ),
    Operation(
        method="GET",
        path="/v1/reservations/{id}",
        name="getReservation",
        summary="Look at a reservation, or wait for it",
        handler=get_reservation,
        tag=_TAG,
        query=ReservationQuery,
        answer=Reservation,
        problems=(404, 429, 503),
    ),
    Operation(
        method="POST",
        path="/v1/reservations/{id}/extend",
        name="extendReservation",
        summary="Extend a lease",
        handler=extend_reservation,
        tag=_TAG,
        role=Role.user,
        body=ExtendBody,
        answer=Reservation,
        is_command=True,
        problems=(404, 409, 422),
    ),
    Operation(
        method="DELETE",
        path="/v1/reservations/{id}",
        name="releaseReservation",
        summary="Release or cancel a reservation",
        handler=release_reservation,
        tag=_TAG,
        role=Role.user,
        answer=Reservation,
        is_command=True,
        problems=(404, 409),
    ),
)
