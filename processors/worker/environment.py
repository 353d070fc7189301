"""The environment a test finds. A pure function; the user's variables never override ours."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from events.tasks import RunAttempt


def environment(task: RunAttempt, *, started_at: datetime, traceparent: str) -> Mapping[str, str]:
    """Return the variables of a run, ours on top of the user's.

    `TEO_ARTIFACTS_DIR` is missing: only the adapter knows where its workspace is, and adds it.
    """
    deadline = started_at + timedelta(seconds=task.run.timeout_s)
    labels = task.bench.labels
    env = dict(task.run.env)
    env |= {
        "TEO_EXECUTION_ID": task.execution_id,
        "TEO_ATTEMPT": str(task.attempt),
        "TEO_BENCH": task.bench.name,
        "TEO_BENCH_LABELS": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "TEO_FENCE": str(task.fence),
        "TEO_DEADLINE": deadline.isoformat(),
    }
    if traceparent:
        env["TRACEPARENT"] = traceparent
    return env
