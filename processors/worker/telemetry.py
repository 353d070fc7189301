"""The worker's spans and metrics, on the OpenTelemetry API alone. Configured elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from events.append_time import CLOCK_OFFSET, WallClock

_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry:
    """Instruments of one worker."""

    def __init__(self, worker: str, pool: str) -> None:
        meter = metrics.get_meter("teo.worker")
        self._tracer = trace.get_tracer("teo.worker")
        self._labels = {"worker": worker, "pool": pool}
        self._wall = WallClock(f"worker:{worker}")
        self._clock_offset = meter.create_gauge(CLOCK_OFFSET, unit="s")
        self._slots_total = meter.create_gauge("teo.worker.slots.total", unit="{slot}")
        self._slots_used = meter.create_gauge("teo.worker.slots.used", unit="{slot}")
        self._unfit = meter.create_gauge(
            "teo.worker.unfit", description="1 while the worker can run no attempt"
        )
        self._attempts = meter.create_counter("teo.worker.attempts", unit="{attempt}")
        self._fences = meter.create_counter("teo.worker.lives.ended", unit="{life}")
        self._refused = meter.create_counter("teo.worker.tasks.refused", unit="{task}")
        self.reports = meter.create_counter("teo.worker.reports", unit="{report}")
        self.log_lines = meter.create_counter("teo.worker.log.lines", unit="{line}")
        self.log_lines_kept_back = meter.create_counter(
            "teo.worker.log.lines_kept_back", unit="{line}"
        )

    def wall_clock(self, ahead_s: float) -> None:
        """Note by how much the worker's wall clock is ahead of the log's time."""
        self._wall.measured(ahead_s)
        self._clock_offset.set(ahead_s, self._labels)

    def slots(self, *, used: int, total: int) -> None:
        """Note how many slots are in use."""
        self._slots_total.set(total, self._labels)
        self._slots_used.set(used, self._labels)

    def unfit(self, *, is_unfit: bool) -> None:
        """Note whether the worker can run attempts."""
        self._unfit.set(int(is_unfit), self._labels)

    def attempt_ended(self, *, verdict: str, code: str) -> None:
        """Count an attempt."""
        self._attempts.add(1, {**self._labels, "verdict": verdict, "code": code})

    def life_ended(self, why: str) -> None:
        """Count a life of the worker that ended."""
        self._fences.add(1, {**self._labels, "why": why})

    def task_refused(self, why: str) -> None:
        """Count a task that was not taken."""
        self._refused.add(1, {**self._labels, "why": why})

    @contextmanager
    def span(self, name: str, traceparent: str, **fields: str | int) -> Iterator[None]:
        """Open a span under `traceparent`, which becomes the current one."""
        with self._tracer.start_as_current_span(
            name, context=_context(traceparent), attributes=fields
        ):
            yield

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Open a span under the current one."""
        with self._tracer.start_as_current_span(name):
            yield


def _context(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent}, context=Context())


def current_traceparent(otherwise: str) -> str:
    """Return the W3C trace context of the current span; `otherwise` where none is recorded."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", otherwise)
