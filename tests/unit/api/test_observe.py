"""Spans, metrics and the access line of a request; in a process of its own: they are global."""

import subprocess
import sys

SCENE = """
import asyncio, io, json, sys, tempfile
from pathlib import Path
import structlog
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

said = io.StringIO()
structlog.configure(
    processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
    logger_factory=structlog.PrintLoggerFactory(said),
)
spans = InMemorySpanExporter()
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracing)
metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()]))

from events.codec import decode_command
from tests.unit.api.lab import in_lab

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

async def scene(lab):
    await lab.benches("bench-1")
    path = "/v1/executions?token=secret-in-query"
    await lab.call("GET", path, headers={"traceparent": PARENT})
    await lab.call("POST", "/v1/reservations", {}, headers={"traceparent": PARENT}, status=201)
    page = (await lab.call("GET", "/metrics")).text
    commands = [decode_command(r.value) for r in lab.cluster.all_records("teo.commands")]
    (span,) = [s for s in spans.get_finished_spans() if s.name == "POST requestReservation"]
    assert span.parent.span_id == 0xB7AD6B7169203331, span.parent
    trace_id = f"{span.context.trace_id:032x}"
    assert trace_id == "0af7651916cd43dd8448eb211c80319c"
    # The command hangs below the span of the request, not beside it.
    traceparent = f"00-{trace_id}-{span.context.span_id:016x}-01"
    assert commands[-1].meta.traceparent == traceparent, commands[-1].meta
    assert span.attributes["http.response.status_code"] == 201
    assert span.attributes["teo.command_id"] == commands[-1].meta.command_id
    assert 'teo_api_requests_total{' in page, page
    assert 'operation="requestReservation"' in page
    assert "teo_api_request_duration_seconds_bucket" in page
    assert 'status="201"' in page
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    (line,) = [l for l in lines if l["event"] == "request.served" and l["status"] == 201]
    assert line["trace_id"] == trace_id
    assert (line["actor"], line["method"], line["path"]) == ("ann", "POST", "/v1/reservations")
    assert "secret-in-query" not in said.getvalue()
    assert "t-ann" not in said.getvalue()

in_lab(scene, Path(sys.argv[1]))
print("seen")
"""


def test_a_request_leaves_a_span_metrics_and_one_line(tmp_path: object) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCENE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "seen\n", run.stderr[-3000:]
