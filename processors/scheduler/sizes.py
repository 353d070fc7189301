"""How big a run and a bench may be, so that whatever is said of both fits in one record. Pure.

A task carries a run and a bench together, and time may bring it: a retry is nobody's input, and
could not be set aside. So each is bounded where a command brings it.
"""

from events.shared import BenchSpec, RunSpec
from events.topics import OUTPUT_BYTES_MAX

RUN_BYTES_MAX = 1_000_000
"""As much as the API takes in one request."""
BENCH_BYTES_MAX = 1_000_000
BESIDE_BYTES_MAX = 256 * 1024
"""More than all else that a task or a fact about them says: names, times, ids, a handle."""
_TEXT_BYTES = 5
"""What the length of a text costs at most."""
_STEP_BYTES = 32

assert RUN_BYTES_MAX + BENCH_BYTES_MAX + BESIDE_BYTES_MAX <= OUTPUT_BYTES_MAX


def run_bytes(run: RunSpec) -> int:
    """Return what `run` costs in a record, at most."""
    return _texts(*run.command, *run.env, *run.env.values(), *run.junit, *run.artifacts)


def bench_bytes(bench: BenchSpec) -> int:
    """Return what `bench` costs in a record, at most."""
    texts = _texts(bench.name, bench.adapter, bench.config, *bench.labels, *bench.labels.values())
    return texts + sum(_texts(policy.step) + _STEP_BYTES for policy in bench.steps)


def _texts(*texts: str) -> int:
    return sum(len(text.encode()) + _TEXT_BYTES for text in texts)
