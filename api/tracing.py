"""The trace context of a request: taken from `traceparent`, else begun here. Never exports."""

import secrets
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
SAMPLED = "01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What joins all that follows from one request."""

    traceparent: str
    trace_id: str


def parent_of(traceparent: str | None) -> Context:
    """Return the context that `traceparent` names; an empty one if it names none."""
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return _PROPAGATOR.extract(carrier, context=Context())


def current(context: Context) -> Trace:
    """Return the trace of the span in `context`; a fresh one where no telemetry is set up."""
    span = trace.get_current_span(context).get_span_context()
    if not span.is_valid:
        trace_id = secrets.token_hex(16)
        traceparent = f"00-{trace_id}-{secrets.token_hex(8)}-{SAMPLED}"
        return Trace(traceparent=traceparent, trace_id=trace_id)
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=context)
    return Trace(traceparent=carrier["traceparent"], trace_id=f"{span.trace_id:032x}")
