"""How long asks had waited when they were served, and how many wait now. For metrics alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from events.facts import Event, ExecutionAssigned, ReservationGranted
from processors.scheduler.decision import Decision
from processors.scheduler.state import Ledger, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One ask that was served."""

    pool: str
    kind: str
    seconds: float


def waits(ledger: Ledger, decisions: Iterable[Decision]) -> Iterator[Wait]:
    """Yield what `decisions`, already folded into `ledger`, served for the first time.

    What has come and gone within one batch is not told: it is not in the ledger any more.
    """
    for decision in decisions:
        for message in decision.events:
            pool, event = ledger.pools.get(message.meta.pool), message.body
            if pool is None:
                continue
            asked_at = _asked_at(pool, event)
            if asked_at is not None:
                kind = "reservation" if isinstance(event, ReservationGranted) else "execution"
                seconds = (message.meta.occurred_at - asked_at).total_seconds()
                yield Wait(pool=pool.name, kind=kind, seconds=seconds)


def _asked_at(pool: Pool, event: Event) -> datetime | None:
    """Return when the ask that `event` serves for the first time was made; None: it serves none."""
    if isinstance(event, ReservationGranted):
        reservation = pool.reservations.get(event.reservation_id)
        return None if reservation is None else reservation.requested_at
    if isinstance(event, ExecutionAssigned) and event.attempt == 1:
        execution = pool.executions.get(event.execution_id)
        return None if execution is None else execution.submitted_at
    return None


def queued(pool: Pool) -> dict[str, int]:
    """Return how many asks of each kind wait for a bench."""
    return {
        "reservation": sum(not each.is_granted for each in pool.reservations.values()),
        "execution": sum(each.state != "active" for each in pool.executions.values()),
    }
