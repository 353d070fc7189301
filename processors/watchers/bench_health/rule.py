"""When a bench counts as sick, from the facts of its pool. Pure; knows neither Faust nor Kafka.

A fold of one partition of the journal, from its first event: so what is asked for, and under which
id, is the same after any crash and in any process. Time is the events', never a clock's.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from events.codes import fault_told
from events.commands import QuarantineBench
from events.facts import (
    AttemptFinished,
    BenchQuarantined,
    BenchRestored,
    ClockJumped,
    CommandRejected,
    HealthPolicySet,
    InputSetAside,
)
from events.ids import derived_id
from events.message import EventMessage, Message
from events.shared import CommandMeta, EventMeta, HealthPolicy

ACTOR = "watcher:bench_health"
ROLES = ("operator",)
POLICY_DEFAULT = HealthPolicy(errors_max=3, window_s=600.0)
"""Of a pool that was given no rule of its own."""
ASK_LAPSES = timedelta(hours=12)
"""A command that has no outcome for so long is void: a watcher that comes late, or for the first
time, takes no bench out for what it did long ago. Less than the day for which the scheduler knows
repeats, and after which it sets a command aside.
"""
REASON_CHARS_MAX = 400
FACTS = (
    AttemptFinished,
    BenchQuarantined,
    BenchRestored,
    ClockJumped,
    CommandRejected,
    HealthPolicySet,
    InputSetAside,
)
"""The facts the rule reads; every other one changes nothing here."""

Ask = Message[CommandMeta, QuarantineBench]


@dataclass(slots=True)
class BenchHealth:
    """What is remembered of a bench."""

    errors: list[datetime] = field(default_factory=list)
    """When the errors of the window happened, oldest first; a jump of the clock moves them."""
    last_error: str = ""
    asked: Ask | None = None
    """What was asked for and has no outcome in the journal yet."""
    is_quarantined: bool = False

    def begin_anew(self, *, is_quarantined: bool) -> None:
        """Forget the window: it led to something, or somebody judged the bench sound."""
        self.errors.clear()
        self.last_error = ""
        self.asked = None
        self.is_quarantined = is_quarantined


@dataclass(slots=True)
class Health:
    """What is remembered of the pools of one partition. Changed by `apply` alone."""

    policies: dict[str, HealthPolicy] = field(default_factory=dict)
    benches: dict[tuple[str, str], BenchHealth] = field(default_factory=dict)

    def unanswered(self) -> tuple[Ask, ...]:
        """Return every command that was asked for and has no outcome in the journal yet."""
        return tuple(
            bench.asked
            for _, bench in sorted(self.benches.items(), key=lambda item: item[0])
            if bench.asked is not None
        )

    def policy(self, pool: str) -> HealthPolicy:
        """Return the rule of a pool."""
        return self.policies.get(pool, POLICY_DEFAULT)

    def bench(self, pool: str, name: str) -> BenchHealth:
        """Return what is remembered of a bench; nothing at first."""
        return self.benches.setdefault((pool, name), BenchHealth())


def has_lapsed(asked: Ask, now: datetime) -> bool:
    """Return True if `asked` is too old to be sent at `now`."""
    return now - asked.meta.issued_at > ASK_LAPSES


def apply(health: Health, message: EventMessage) -> tuple[Ask, ...]:
    """Change `health` as the next event of the journal says; return what is to be asked for now.

    Each event must be given once, in the order of the journal.
    """
    meta = message.meta
    match message.body:
        case AttemptFinished(verdict="error") as event if _is_the_benchs(event):
            bench = health.bench(meta.pool, event.bench)
            if bench.is_quarantined:
                return ()
            bench.errors.append(meta.occurred_at)
            bench.last_error = f"{event.code}: {event.reason}"
            return _judge(health, meta, event.bench)
        case HealthPolicySet(health=policy):
            health.policies[meta.pool] = policy
            names = sorted(name for pool, name in health.benches if pool == meta.pool)
            return tuple(asked for name in names for asked in _judge(health, meta, name))
        case BenchQuarantined(bench=name):
            health.bench(meta.pool, name).begin_anew(is_quarantined=True)
        case BenchRestored(bench=name):
            health.bench(meta.pool, name).begin_anew(is_quarantined=False)
        case CommandRejected(command="QuarantineBench"):
            _refused(health, meta.causation_id)
        case InputSetAside(command_id=command_id):
            _refused(health, command_id)
        case ClockJumped(by_s=by_s) if by_s > 0:
            for bench in health.benches.values():
                bench.errors = [at + timedelta(seconds=by_s) for at in bench.errors]
        case _:
            pass
    return ()


def _refused(health: Health, command_id: str) -> None:
    """Begin anew with the bench that was asked for by a command that came to nothing."""
    for bench in health.benches.values():
        if bench.asked and bench.asked.meta.command_id == command_id:
            bench.begin_anew(is_quarantined=False)


def _is_the_benchs(event: AttemptFinished) -> bool:
    """Return True for the bench's own fault. Anybody else's (the worker's, its network's, that of
    a store that is down, the asker's) would take many sound benches out at once. A teardown that
    fails needs no counting: the scheduler quarantines its bench at the first."""
    return fault_told(event.verdict, event.code, event.fault) == "bench"


def _judge(health: Health, meta: EventMeta, name: str) -> tuple[Ask, ...]:
    """Return the command that the errors of a bench call for, as of the event of `meta`."""
    bench, policy = health.bench(meta.pool, name), health.policy(meta.pool)
    since = meta.occurred_at - timedelta(seconds=policy.window_s)
    bench.errors = [at for at in bench.errors if at > since]
    if bench.asked is not None and has_lapsed(bench.asked, meta.occurred_at):
        bench.asked = None
    if bench.asked is not None or len(bench.errors) <= policy.errors_max:
        return ()
    bench.asked = _quarantine(meta, name, bench, policy)
    return (bench.asked,)


def _quarantine(meta: EventMeta, name: str, bench: BenchHealth, policy: HealthPolicy) -> Ask:
    """Return the command; its id follows from the event that ended the bench's patience."""
    reason = (
        f"{len(bench.errors)} infrastructure errors within {policy.window_s:g} s, "
        f"{policy.errors_max} are borne; the last: {bench.last_error}"
    )
    return Message(
        CommandMeta(
            command_id=derived_id(
                meta.occurred_at, f"bench_health/{meta.pool}/{name}/{meta.event_id}"
            ),
            pool=meta.pool,
            actor=ACTOR,
            roles=ROLES,
            issued_at=meta.occurred_at,
            correlation_id=meta.correlation_id,
            traceparent=meta.traceparent,
            request_hash="",
        ),
        QuarantineBench(bench=name, reason=reason[:REASON_CHARS_MAX]),
    )
