"""A span, metrics and one log line per request; turns what nobody caught into a problem.

Never logs a query string, a body or a token.
"""

import time
from collections.abc import Mapping

import structlog
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, to_response
from api.tracing import current, parent_of

log = structlog.get_logger()
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are told apart; others would let a client make metrics without end."""
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are asked so often that their lines are only for debugging."""

_TRACER = trace.get_tracer("teo.api")
_METER = metrics.get_meter("teo.api")
_REQUESTS = _METER.create_counter("teo_api_requests", description="Requests answered.")
_DURATION = _METER.create_histogram(
    "teo_api_request_duration", unit="s", description="Time to the start of an answer."
)

SECURITY_HEADERS: Mapping[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}


class Observe:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, watched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        context = parent_of(Headers(scope=scope).get("traceparent"))
        state = scope.setdefault("state", {})
        with _TRACER.start_as_current_span(
            scope["method"], context=context, kind=SpanKind.SERVER
        ) as span:
            # Where no telemetry is set up the span is the parent itself, or none: then a fresh
            # trace begins here, so that commands and log lines carry the same one.
            here = _with_trace(otel_context.get_current())
            trace_id = current(here).trace_id
            answer = _Answer(send, trace_id)
            begun_s = time.perf_counter()
            token = otel_context.attach(here)
            try:
                await self._serve(scope, receive, answer)
            finally:
                otel_context.detach(token)
                elapsed_s = (answer.begun_s or time.perf_counter()) - begun_s
                operation = str(state.get("operation", "none"))
                _tell(scope, operation, answer.status, elapsed_s, trace_id)
                span.update_name(f"{scope['method']} {operation}")
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "url.path": scope["path"],
                        "http.response.status_code": answer.status,
                    }
                )
                if answer.status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if answer.begun_s is not None:
                raise
            log.exception("request.failed", path=scope["path"], method=scope["method"])
            detail = (
                f"an error of ours ({type(error).__name__}); the server's log has it under the "
                "trace id of this answer's TEO-Trace-Id"
            )
            problem = Problem(500, "internal", detail)
            response = to_response(problem, instance=scope["path"])
            await response(scope, receive, answer.send)


class _Answer:
    """What was answered, and when it began."""

    def __init__(self, send: Send, trace_id: str) -> None:
        self._send = send
        self._trace_id = trace_id
        self.status = 500
        self.begun_s: float | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on, and note what it says."""
        if message["type"] == "http.response.start":
            self.begun_s = time.perf_counter()
            self.status = message["status"]
            there = {name for name, _ in message["headers"]}
            more = [each for each in SECURITY_HEADERS.items() if each[0] not in there]
            message["headers"] = [
                *message["headers"],
                *more,
                (b"teo-trace-id", self._trace_id.encode()),
            ]
        await self._send(message)


def _with_trace(context: otel_context.Context) -> otel_context.Context:
    """Return `context`, or one with a fresh trace if it has none."""
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    return parent_of(current(context).traceparent)


def _tell(scope: Scope, operation: str, status: int, elapsed_s: float, trace_id: str) -> None:
    method = scope["method"] if scope["method"] in METHODS else "other"
    _REQUESTS.add(1, {"method": method, "operation": operation, "status": str(status)})
    _DURATION.record(elapsed_s, {"operation": operation})
    say = log.debug if scope["path"] in QUIET else log.info
    fields = {
        "method": method,
        "path": scope["path"],
        "status": status,
        "duration_s": round(elapsed_s, 6),
        "trace_id": trace_id,
    }
    say("request.served", **{**structlog.contextvars.get_contextvars(), **fields})
