"""What the runtime counts and times, in OpenTelemetry's words. Never configures an exporter."""

from dataclasses import dataclass

from opentelemetry.metrics import Counter, Histogram, Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMetrics:
    """Instruments of one scheduler process."""

    commit: Histogram
    wait: Histogram
    lag: Histogram
    batch: Histogram
    recovery: Histogram
    events: Counter
    recoveries: Counter
    set_aside: Counter
    snapshots: Counter
    snapshots_skipped: Counter
    snapshot_bytes: Histogram
    ignored: Counter
    expired: Counter
    clock_jumps: Counter
    resets: Counter


def runtime_metrics(meter: Meter) -> RuntimeMetrics:
    """Return the instruments, made by `meter`."""
    return RuntimeMetrics(
        commit=meter.create_histogram(
            "teo_scheduler_commit", unit="s", description="Time of a transaction"
        ),
        wait=meter.create_histogram(
            "teo_scheduler_wait",
            unit="s",
            description="How long an ask had waited when it was served, by pool and kind",
        ),
        lag=meter.create_histogram(
            "teo_scheduler_lag",
            unit="s",
            description="Age of the oldest input of a batch when it was read, by partition",
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
        expired=meter.create_counter(
            "teo_scheduler_inputs_expired",
            description="Inputs that retention took before anybody decided them, by topic",
        ),
        clock_jumps=meter.create_counter(
            "teo_scheduler_clock_jumps",
            description="Times the clock that stamps inputs was seen to jump, by topic and way",
        ),
        resets=meter.create_counter(
            "teo_scheduler_inputs_reset",
            description="Times inputs were not what the journal knew, by topic",
        ),
        set_aside=meter.create_counter(
            "teo_scheduler_set_aside", description="Inputs sent to the dead letters"
        ),
        snapshots=meter.create_counter(
            "teo_scheduler_snapshots",
            description="Snapshots, by outcome: written, too_big (not written), failed",
        ),
        snapshots_skipped=meter.create_counter(
            "teo_scheduler_snapshots_skipped",
            description="Snapshots that a recovery could not use, by reason",
        ),
        snapshot_bytes=meter.create_histogram(
            "teo_scheduler_snapshot_bytes", unit="By", description="Size of a snapshot as written"
        ),
        ignored=meter.create_counter(
            "teo_scheduler_inputs_ignored", description="Repeats and stale reports, by reason"
        ),
    )
