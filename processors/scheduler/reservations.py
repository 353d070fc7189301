"""Decides what users ask of reservations. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from events.commands import ExtendReservation, ReleaseReservation, RequestReservation
from events.errors import InvalidSelector
from events.facts import (
    Event,
    ReservationCancelled,
    ReservationExtended,
    ReservationReleased,
    ReservationRequested,
)
from events.limits import GANG_SIZE_MAX, LEASE_S_MAX, PRIORITY_MAX, WAIT_S_MAX
from events.matching import match_all
from events.selector import parse
from events.shared import CommandMeta
from processors.scheduler.rejection import may_change, reject
from processors.scheduler.state import Pool, Reservation


def request_reservation(
    pool: Pool, command: RequestReservation, meta: CommandMeta, now: datetime
) -> Sequence[Event]:
    """Accept an ask that can be met by the benches there are, busy or not."""
    fault = _fault(pool, command)
    if fault is not None:
        return [reject(command, *fault, command.reservation_id)]
    return [
        ReservationRequested(
            reservation_id=command.reservation_id,
            owner=meta.actor,
            selectors=command.selectors,
            duration_s=command.duration_s,
            wait_until=wait_end(command.wait_timeout_s, now),
            priority=command.priority,
        )
    ]


def wait_end(wait_timeout_s: float | None, now: datetime) -> datetime | None:
    """Return until when an ask waits; None: for ever."""
    return None if wait_timeout_s is None else now + timedelta(seconds=wait_timeout_s)


def _fault(pool: Pool, command: RequestReservation) -> tuple[str, str] | None:
    known = pool.reservations.get(command.reservation_id) or pool.ended.get(command.reservation_id)
    if known is not None or not command.reservation_id:
        return "already_exists", f"reservation {command.reservation_id} exists; use a new id"
    if not 1 <= len(command.selectors) <= GANG_SIZE_MAX:
        return "invalid_selector", f"ask for 1 to {GANG_SIZE_MAX} benches"
    if not 0 < command.duration_s <= LEASE_S_MAX:
        return "invalid_duration", f"a lease lasts more than 0 and at most {LEASE_S_MAX:.0f} s"
    return limits_fault(command.priority, command.wait_timeout_s) or selectors_fault(
        pool, command.selectors
    )


def limits_fault(priority: int, wait_timeout_s: float | None) -> tuple[str, str] | None:
    """Return code and reason if a limit of an ask is out of bounds."""
    if abs(priority) > PRIORITY_MAX:
        return "invalid_priority", f"priority is from -{PRIORITY_MAX} to {PRIORITY_MAX}"
    if wait_timeout_s is not None and not 0 < wait_timeout_s <= WAIT_S_MAX:
        return "invalid_duration", f"a wait lasts more than 0 and at most {WAIT_S_MAX:.0f} s"
    return None


def selectors_fault(pool: Pool, selectors: Sequence[str]) -> tuple[str, str] | None:
    """Return code and reason if the benches of `pool`, were all free, could not serve the ask."""
    for selector in selectors:
        try:
            parse(selector)
        except InvalidSelector as error:
            return "invalid_selector", str(error)
        if not pool.matching(selector):
            return (
                "no_matching_bench",
                f"pool {pool.name} has no bench that matches {selector!r}; "
                "`teo bench list` shows the labels there are",
            )
    if match_all([pool.matching(selector) for selector in selectors]) is None:
        return (
            "no_matching_bench",
            f"pool {pool.name} has too few benches for {len(selectors)} places at once; "
            "ask for fewer or for other labels",
        )
    return None


def extend_reservation(
    pool: Pool, command: ExtendReservation, meta: CommandMeta, now: datetime
) -> Sequence[Event]:
    """Move the end of a lease by `duration_s`."""
    found = _own(pool, command, meta)
    if not isinstance(found, Reservation):
        return found
    if found.lease_until is None:
        reason = f"reservation {found.id} still waits: there is no lease to extend yet"
        return [reject(command, "not_granted", reason, found.id)]
    if 0 < command.duration_s <= LEASE_S_MAX:  # False for what is no number, too.
        lease_until = found.lease_until + timedelta(seconds=command.duration_s)
        if lease_until <= now + timedelta(seconds=LEASE_S_MAX):
            return [ReservationExtended(reservation_id=found.id, lease_until=lease_until)]
    reason = f"an extension is more than 0 s, and a lease ends within {LEASE_S_MAX:.0f} s"
    return [reject(command, "invalid_duration", reason, found.id)]


def release_reservation(
    pool: Pool, command: ReleaseReservation, meta: CommandMeta
) -> Sequence[Event]:
    """Give the benches back; an ask that waits is cancelled."""
    found = _own(pool, command, meta)
    if not isinstance(found, Reservation):
        return found
    reason = f"by {meta.actor}"
    if found.is_granted:
        released = ReservationReleased(reservation_id=found.id, code="released", reason=reason)
        return [released]
    return [ReservationCancelled(reservation_id=found.id, code="cancelled_by_user", reason=reason)]


def _own(
    pool: Pool, command: ExtendReservation | ReleaseReservation, meta: CommandMeta
) -> Reservation | Sequence[Event]:
    """Return the live reservation the actor may change, else the refusal."""
    reservation_id = command.reservation_id
    reservation = pool.reservations.get(reservation_id)
    if reservation is None:
        ended = pool.ended.get(reservation_id)
        if ended is None or ended.kind != "reservation":
            reason = (
                f"pool {pool.name} has no reservation {reservation_id}; `teo status` lists yours"
            )
            return [reject(command, "no_such_reservation", reason, reservation_id)]
        reason = f"reservation {reservation_id} is over: it was {ended.status}"
        return [reject(command, "reservation_ended", reason, reservation_id)]
    if not may_change(meta, reservation.owner):
        reason = f"reservation {reservation_id} belongs to {reservation.owner}, not to {meta.actor}"
        return [reject(command, "not_owner", reason, reservation_id)]
    return reservation
