"""Whether what was given for a time lasted as long, measured: jumps of the clock are no time.

A rule over the times that the journal says, less the jumps that it names. What no fact names,
because no owner was there to measure it, no reader of the journal can know either.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from events import facts
from events.message import EventMessage
from processors.audit.rule import Rule

ATTEMPT_GRACE_S_LEAST = 600.0
"""What all but the run of an attempt was ever given, by any version that wrote a journal."""


class LeasesLastAsAsked(Rule):
    """A lease, a wait and an attempt are not over before their time, jumps of the clock aside."""

    name = "leases_last_as_asked"

    def __init__(self) -> None:
        self._due: dict[str, tuple[datetime, timedelta]] = {}
        """For each reservation when its wait or lease ends, and how far clocks had jumped then."""
        self._durations: dict[str, float] = {}
        self._waits: dict[str, tuple[datetime, timedelta]] = {}
        """The same for executions that were not tried yet."""
        self._timeouts: dict[str, float] = {}
        self._attempts: dict[str, tuple[datetime, timedelta]] = {}
        """For each open execution the earliest time at which its attempt is overdue."""
        self._jumped = timedelta(0)

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        at = message.meta.occurred_at
        match message.body:
            case facts.ClockJumped(by_s=by_s) if by_s > 0:
                self._jumped += timedelta(seconds=by_s)
            case facts.ReservationRequested() as asked:
                self._durations[asked.reservation_id] = asked.duration_s
                self._set(self._due, asked.reservation_id, asked.wait_until)
            case facts.ReservationGranted() as given:
                duration_s = self._durations.pop(given.reservation_id, 0.0)
                asked_for = at + timedelta(seconds=duration_s)
                self._set(self._due, given.reservation_id, max(asked_for, given.lease_until))
            case facts.ReservationExtended() as given:
                self._set(self._due, given.reservation_id, given.lease_until)
            case facts.ReservationExpired() as over:
                yield from self._early(self._due, over.reservation_id, at, "its lease")
            case facts.ReservationCancelled(code="wait_timed_out") as over:
                yield from self._early(self._due, over.reservation_id, at, "its wait")
            case (
                facts.ReservationReleased()
                | facts.ReservationRevoked()
                | facts.ReservationCancelled() as over
            ):
                self._due.pop(over.reservation_id, None)
                self._durations.pop(over.reservation_id, None)
            case _:
                yield from self._execution(message, at)

    def _execution(self, message: EventMessage, at: datetime) -> Iterator[str]:
        match message.body:
            case facts.ExecutionSubmitted() as submitted:
                self._timeouts[submitted.execution_id] = submitted.run.timeout_s
                self._set(self._waits, submitted.execution_id, submitted.wait_until)
            case facts.ExecutionAssigned() as assigned:
                self._waits.pop(assigned.execution_id, None)
                limit_s = self._timeouts.get(assigned.execution_id, 0.0)
                due = at + timedelta(seconds=limit_s + ATTEMPT_GRACE_S_LEAST)
                self._set(self._attempts, assigned.execution_id, due)
            case facts.AttemptFinished(code="attempt_overdue") as ended:
                yield from self._early(self._attempts, ended.execution_id, at, "its attempt")
            case facts.ExecutionFinished() as ended:
                if ended.code == "wait_timed_out":
                    yield from self._early(self._waits, ended.execution_id, at, "its wait")
                for known in (self._waits, self._attempts, self._timeouts):
                    known.pop(ended.execution_id, None)

    def _set(
        self, dues: dict[str, tuple[datetime, timedelta]], name: str, due: datetime | None
    ) -> None:
        dues.pop(name, None)
        if due is not None:
            dues[name] = (due, self._jumped)

    def _early(
        self, dues: dict[str, tuple[datetime, timedelta]], name: str, at: datetime, what: str
    ) -> Iterator[str]:
        due, jumped = dues.pop(name, (None, self._jumped))
        if due is None:
            return
        early = due + (self._jumped - jumped) - at
        if early > timedelta(0):
            yield f"{what} is over {early.total_seconds():.3f} s before its time"
