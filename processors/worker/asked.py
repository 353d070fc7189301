"""A task in the adapter's words: what the worker asks of it. Pure."""

import json
from collections.abc import Mapping

from adapters.contract import AdapterError, Attempt, AttemptId, Bench, Limits
from events.shared import BenchSpec
from events.tasks import RunAttempt, TearDownBench


def attempt_id(task: RunAttempt | TearDownBench) -> AttemptId:
    """Return the name of the task's attempt."""
    return AttemptId(execution_id=task.execution_id, number=task.attempt, fence=task.fence)


def bench_of(spec: BenchSpec) -> Bench:
    """Return the bench; raises `AdapterError` for a config that is no JSON object."""
    try:
        config = json.loads(spec.config or "{}")
    except ValueError as error:
        raise _broken(spec, str(error)) from error
    if not isinstance(config, dict):
        raise _broken(spec, "not an object")
    return Bench(name=spec.name, labels=dict(spec.labels), config=config)


def attempt_of(task: RunAttempt, *, env: Mapping[str, str], grace_s: float) -> Attempt:
    """Return the attempt; raises `AdapterError` for a bench whose config is broken."""
    return Attempt(
        id=attempt_id(task),
        bench=bench_of(task.bench),
        command=task.run.command,
        env=env,
        timeout_s=task.run.timeout_s,
        idle_timeout_s=task.run.idle_timeout_s,
        grace_s=grace_s,
        junit=task.run.junit,
        artifacts=task.run.artifacts,
        limits=Limits(
            memory_max_bytes=task.run.memory_max_bytes,
            processes_max=task.run.processes_max,
            disk_max_bytes=task.run.disk_max_bytes,
        ),
    )


def _broken(spec: BenchSpec, why: str) -> AdapterError:
    message = f"config of bench {spec.name} is no JSON object ({why}): apply the bench again"
    return AdapterError(message, code="invalid_config", retriable=False)
