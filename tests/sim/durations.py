"""Whether what was given for a time really lasted so long, whatever clocks say.

The simulation knows when each record was appended. The journal's own times are judged by the rule
`leases_last_as_asked`; here they do not count.
"""

from dataclasses import dataclass, field

from events import facts
from events.codec import decode_event
from events.log import Record
from events.message import EventMessage
from processors.audit.checkers import Violated
from processors.scheduler.deadlines import ATTEMPT_GRACE_S
from tests.sim.world import TOPICS, World

EARLY_S_MAX = 3.0
"""As stale as the last end may be that a slow owner knows when a clock is set back."""


def judge_durations(world: World, number: int) -> None:
    """No lease, wait or attempt was over before its time, where the time was measured.

    Clocks that are set while nobody measures the time of a partition, or while it changes hands,
    are like an outage.
    """
    if all(number in each.measured and world.is_steady(each.at_s) for each in world.clock_jumps):
        _Judge(world, number).judge()


@dataclass
class _Judge:
    world: World
    number: int
    due_s: dict[str, float] = field(default_factory=dict)
    """When each lease, wait or attempt may be over."""
    asked_s: dict[str, float] = field(default_factory=dict)
    """How long each lease, or the run of each attempt, may take."""

    def judge(self) -> None:
        for record in self.world.cluster.records(TOPICS.events, self.number):
            self._see(record, decode_event(record.value))

    def _see(self, record: Record, message: EventMessage) -> None:
        place = record.topic, record.partition, record.offset
        at_s = self.world.cluster.appended_s[place][-1]
        begun_s = self._begun_s(message, at_s)
        match message.body:
            case facts.ReservationRequested() as asked:
                self.asked_s[asked.reservation_id] = asked.duration_s
                self._wait(asked.reservation_id, asked.wait_until, message, begun_s)
            case facts.ReservationGranted() as granted:
                name = granted.reservation_id
                self.due_s[name] = begun_s + self.asked_s[name]
            case facts.ReservationExtended() as extended:
                self.due_s[extended.reservation_id] += 5.0
            case facts.ReservationExpired() as over:
                self._over(over.reservation_id, at_s, message)
            case facts.ReservationCancelled(code="wait_timed_out") as over:
                self._over(over.reservation_id, at_s, message)
            case facts.ExecutionSubmitted() as submitted:
                name = submitted.execution_id
                self.asked_s[name] = submitted.run.timeout_s + ATTEMPT_GRACE_S
                self._wait(name, submitted.wait_until, message, begun_s)
            case facts.ExecutionAssigned() as assigned:
                name = assigned.execution_id
                self.due_s[name] = begun_s + self.asked_s[name]
            case facts.AttemptFinished(code="attempt_overdue") as ended:
                self._over(ended.execution_id, at_s, message)
            case facts.ExecutionFinished(code="wait_timed_out") as ended:
                self._over(ended.execution_id, at_s, message)

    def _begun_s(self, message: EventMessage, at_s: float) -> float:
        """Return when what was decided began: when its input came, or when it was decided."""
        meta = message.meta
        if not meta.input_topic:
            return at_s - EARLY_S_MAX
        place = meta.input_topic, self.number, meta.input_offset
        return max(each for each in self.world.cluster.appended_s[place] if each <= at_s)

    def _wait(self, name: str, until: object, message: EventMessage, begun_s: float) -> None:
        if until is not None:
            wait_s = (until - message.meta.occurred_at).total_seconds()  # type: ignore[operator]
            self.due_s[name] = begun_s + wait_s

    def _over(self, name: str, at_s: float, message: EventMessage) -> None:
        early_s = self.due_s[name] - at_s
        if early_s > EARLY_S_MAX:
            raise Violated(f"over {early_s:.1f} s before its time, measured: {message}")
