"""What the runtime counts and times, in OpenTelemetry's words. Never configures an exporter."""

from dataclasses import dataclass

from opentelemetry.metrics import Counter, Histogram, Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMetrics:
    """Instruments of one scheduler process."""

    commit: Histogram
    batch: Histogram
    recovery: Histogram
    events: Counter
    recoveries: Counter
    set_aside: Counter


def runtime_metrics(meter: Meter) -> RuntimeMetrics:
    """Return the instruments, made by `meter`."""
    return RuntimeMetrics(
        commit=meter.create_histogram(
            "teo_scheduler_commit", unit="s", description="Time of a transaction"
        ),
        batch=meter.create_histogram(
            "teo_scheduler_batch_records", description="Records of a transaction"
        ),
        recovery=meter.create_histogram(
            "teo_scheduler_recovery", unit="s", description="Fence and fold of a partition"
        ),
        events=meter.create_counter("teo_scheduler_events", description="Facts written"),
        recoveries=meter.create_counter(
            "teo_scheduler_recoveries", description="Times a partition's state was thrown away"
        ),
        set_aside=meter.create_counter(
            "teo_scheduler_set_aside", description="Inputs sent to the dead letters"
        ),
    )
