"""Makes journals for the watchers: events with dense numbers, and the records they stand in."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from events import facts
from events.codec import encode
from events.ids import ID_HEADER, event_id
from events.log import Record
from events.message import EventMessage, Message
from events.shared import EventMeta, HealthPolicy, Totals

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
NO_TOTALS = Totals(passed=0, failed=0, errors=0, skipped=0)


def error(bench: str = "b1", code: str = "provision_failed") -> facts.AttemptFinished:
    return ended(bench, "error", code)


def ended(bench: str, verdict: str, code: str) -> facts.AttemptFinished:
    return facts.AttemptFinished(
        execution_id="e1",
        attempt=1,
        bench=bench,
        worker="w1",
        verdict=verdict,
        code=code,
        reason="the relay sticks",
        totals=NO_TOTALS,
        artifacts=(),
        is_retriable=True,
    )


def policy(errors_max: int, window_s: float) -> facts.HealthPolicySet:
    return facts.HealthPolicySet(health=HealthPolicy(errors_max=errors_max, window_s=window_s))


def taken_out(bench: str = "b1") -> facts.BenchQuarantined:
    return facts.BenchQuarantined(bench=bench, reason="smoke")


def restored(bench: str = "b1") -> facts.BenchRestored:
    return facts.BenchRestored(bench=bench)


def message(
    body: facts.Event,
    *,
    seq: int,
    at_s: float,
    pool: str = "lab",
    causation_id: str = "c",
    start: datetime = START,
) -> EventMessage:
    at = start + timedelta(seconds=at_s)
    meta = EventMeta(
        event_id=event_id(at, 0, seq),
        pool=pool,
        seq=seq,
        index=0,
        count=1,
        occurred_at=at,
        actor="worker:w1",
        causation_id=causation_id,
        correlation_id="cor",
        traceparent="",
        input_topic="teo.reports",
        input_offset=seq,
        request_hash="",
    )
    return Message(meta, body)


def journal(*events: tuple[float, facts.Event]) -> list[EventMessage]:
    return [message(body, seq=seq, at_s=at_s) for seq, (at_s, body) in enumerate(events)]


def record(offset: int, value: bytes | None, *, said_id: str = "") -> Record:
    return Record(
        topic="teo.events",
        partition=0,
        offset=offset,
        timestamp=START,
        key=b"lab",
        value=value,
        headers={ID_HEADER: said_id.encode()} if said_id else {},
    )


def records(messages: Iterable[EventMessage]) -> Sequence[Record]:
    """Each in a transaction of its own: every second offset is a marker's."""
    return [
        record(2 * at, encode(each), said_id=each.meta.event_id) for at, each in enumerate(messages)
    ]
