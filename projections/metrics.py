"""What a projector counts and times, in OpenTelemetry's words. Never configures an exporter."""

from dataclasses import dataclass

from opentelemetry.metrics import Counter, Histogram, Meter, get_meter


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionMetrics:
    """Instruments of one read model."""

    apply: Histogram
    events: Counter
    interruptions: Counter


def projection_metrics(meter: Meter | None = None) -> ProjectionMetrics:
    """Return the instruments, made by `meter`; left out, by the process's own."""
    meter = meter or get_meter("teo.projections")
    return ProjectionMetrics(
        apply=meter.create_histogram(
            "teo_projection_apply", unit="s", description="Time in which a batch goes in"
        ),
        events=meter.create_counter("teo_projection_events", description="Events applied"),
        interruptions=meter.create_counter(
            "teo_projection_interruptions", description="Times the log could not be read"
        ),
    )
