"""Logs, metrics and traces of a role, composed once at its start. Never used by the deciders.

Logs are JSON lines on stderr (or for people, on a terminal). Metrics are always there for
`/metrics`; they and traces go out by OTLP only if `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
"""

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from cli.version import version

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_EXPORT_MS = 10_000


def start(role: str) -> Callable[[], None]:
    """Compose the telemetry of `role`; return what flushes and ends it."""
    _logs(role)
    resource = Resource.create({"service.name": f"teo-{role}", "service.version": version()})
    readers: list[MetricReader] = [PrometheusMetricReader()]
    tracing = TracerProvider(resource=resource)
    if os.environ.get(OTLP_ENDPOINT):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        readers.append(
            PeriodicExportingMetricReader(
                OTLPMetricExporter(), export_interval_millis=METRICS_EXPORT_MS
            )
        )
        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    metering = MeterProvider(resource=resource, metric_readers=readers)
    metrics.set_meter_provider(metering)
    trace.set_tracer_provider(tracing)

    def end() -> None:
        tracing.shutdown()
        metering.shutdown()

    return end


def _logs(role: str) -> None:
    level = logging.getLevelNamesMapping().get(os.environ.get("TEO_LOG_LEVEL", "INFO").upper(), 20)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _role(role),
            _trace_ids,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


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
