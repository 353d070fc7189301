"""Logs, metrics and traces of a role, composed once at its start. Never used by the deciders.

Logs are JSON lines on stderr (or for people, on a terminal). Metrics are always there for
`/metrics`; they and traces go out by OTLP only if `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from cli.client import is_loopback
from cli.repeats import Repeats
from cli.version import version

if TYPE_CHECKING:
    import requests

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_EXPORT_MS = 10_000


def start(role: str) -> Callable[[], None]:
    """Compose the telemetry of `role`; return what flushes and ends it."""
    _logs(role)
    resource = Resource.create({"service.name": f"teo-{role}", "service.version": version()})
    readers: list[MetricReader] = [PrometheusMetricReader()]
    tracing = TracerProvider(resource=resource)
    if endpoint := os.environ.get(OTLP_ENDPOINT):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        readers.append(
            PeriodicExportingMetricReader(
                OTLPMetricExporter(session=_session(endpoint)),
                export_interval_millis=METRICS_EXPORT_MS,
            )
        )
        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_session(endpoint))))
    metering = MeterProvider(resource=resource, metric_readers=readers)
    metrics.set_meter_provider(metering)
    trace.set_tracer_provider(tracing)

    def end() -> None:
        tracing.shutdown()
        metering.shutdown()

    return end


def _session(endpoint: str) -> "requests.Session":
    """Return what speaks to a collector: one of this machine is not asked through a proxy."""
    import requests

    session = requests.Session()
    session.trust_env = not is_loopback(endpoint)
    return session


class _BestEffort:
    """A stream of notes: one that cannot be written, as on a full disk, is left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _logs(role: str) -> None:
    level = logging.getLevelNamesMapping().get(os.environ.get("TEO_LOG_LEVEL", "INFO").upper(), 20)
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _role(role),
        _trace_ids,
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer()
    notes = cast(TextIO, _BestEffort(sys.stderr))
    _logs_of_libraries([structlog.stdlib.add_logger_name, _held_back, *chain], render, notes)
    structlog.configure(
        processors=[*chain, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(notes),
        cache_logger_on_first_use=True,
    )


def _logs_of_libraries(
    chain: list[structlog.typing.Processor], render: structlog.typing.Processor, notes: TextIO
) -> None:
    """Write what libraries warn of as lines of the same form, each text only now and then."""
    handler = logging.StreamHandler(notes)
    handler.addFilter(Repeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(capture=True)


def _held_back(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    if held_back := getattr(event["_record"], "held_back", 0):
        event["held_back"] = held_back
    return event


def _role(role: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        event["role"] = role
        return event

    return add


def _trace_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
