"""Whether what came in time counted: the log says when it came, and what was due when."""

from datetime import datetime

from events import facts
from events.codec import decode_command
from events.commands import ExtendReservation
from events.errors import Undecodable
from processors.audit.checkers import Violated
from tests.sim.world import TOPICS, World


def judge_in_time(world: World, number: int) -> None:
    """No extension that was on the log before the lease was over is refused because it is over.

    Where clocks were set, stamps do not tell what came before what.
    """
    if world.clock_jumps:
        return
    came = _extensions(world, number)
    lease: dict[str, datetime] = {}
    expired: set[str] = set()
    for message in world.journal(number):
        match message.body:
            case facts.ReservationGranted() | facts.ReservationExtended() as given:
                lease[given.reservation_id] = given.lease_until
            case facts.ReservationExpired() as over:
                expired.add(over.reservation_id)
            case facts.CommandRejected(subject_id=name):
                at = came.get(message.meta.causation_id)
                if at is not None and name in expired and at < lease[name]:
                    raise Violated(
                        f"in time and refused: {name} was to be extended at {at.isoformat()}, "
                        f"its lease went until {lease[name].isoformat()}: {message}"
                    )


def _extensions(world: World, number: int) -> dict[str, datetime]:
    """Return when each command that extends a reservation came first, by its id."""
    came: dict[str, datetime] = {}
    for record in world.cluster.records(TOPICS.commands, number):
        try:
            message = decode_command(record.value)
        except Undecodable:
            continue
        if isinstance(message.body, ExtendReservation):
            came.setdefault(message.meta.command_id, record.timestamp)
    return came
