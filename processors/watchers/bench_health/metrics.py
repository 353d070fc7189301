"""What the watcher counts and times, in OpenTelemetry's words. Never configures an exporter."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

Gauge = Callable[[CallbackOptions], Iterable[Observation]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMetrics:
    """Instruments of one watcher process."""

    records: Counter
    skipped: Counter
    commands: Counter
    fold: Histogram


def health_metrics(meter: Meter, *, unanswered: Gauge) -> HealthMetrics:
    """Return the instruments, made by `meter`."""
    meter.create_observable_gauge(
        "teo_watcher_unanswered",
        callbacks=[unanswered],
        description="Commands that have no outcome in the journal yet",
    )
    return HealthMetrics(
        records=meter.create_counter("teo_watcher_records", description="Records read"),
        skipped=meter.create_counter(
            "teo_watcher_skipped", description="Records that could not be read"
        ),
        commands=meter.create_counter(
            "teo_watcher_commands", description="Commands sent, repeats included"
        ),
        fold=meter.create_histogram(
            "teo_watcher_fold", unit="s", description="Fold of a partition"
        ),
    )
