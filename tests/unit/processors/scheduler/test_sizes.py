"""The biggest run on the biggest bench is one task that fits in a record."""

from dataclasses import replace

from adapters.grammar import GLOBS_MAX, VARIABLES_MAX, WORDS_MAX
from events import facts, tasks
from events.codec import encode
from events.message import Message
from events.shared import BenchSpec, RunSpec, StepPolicy
from events.topics import OUTPUT_BYTES_MAX
from processors.scheduler.sizes import (
    BENCH_BYTES_MAX,
    BESIDE_BYTES_MAX,
    RUN_BYTES_MAX,
    bench_bytes,
    run_bytes,
)
from tests.unit.processors.scheduler.history import RUN, History, benches, started, submit


def bench_of(size: int) -> BenchSpec:
    """Return a bench that counts as `size` bytes."""
    policy = StepPolicy(step="teardown", timeout_s=1.0, retries=1, backoff_s=1.0)
    bench = BenchSpec(name="b1", labels={"a": "b"}, adapter="mock", config="", steps=(policy,))
    return replace(bench, config="c" * (size - bench_bytes(bench)))


def run_of(size: int) -> RunSpec:
    """Return a run of as many texts as may be that counts as `size` bytes."""
    env = dict.fromkeys((f"A{number}" for number in range(VARIABLES_MAX)), "é" * 450)
    command = ("true", *["é"] * (WORDS_MAX - 1))
    run = replace(RUN, command=command, env=env, junit=("*.xml",) * GLOBS_MAX)
    missing = size - run_bytes(run)
    return replace(run, env={**env, "A0": "a" * missing + env["A0"]})


def test_what_is_accepted_fits_in_one_task_with_all_that_is_said_beside() -> None:
    history = History()
    history.ask(replace(benches(), benches=(bench_of(BENCH_BYTES_MAX),)))
    history.report(started())
    history.ask(submit("e1", run=run_of(RUN_BYTES_MAX)))
    ((meta, task),) = history.orders
    assert isinstance(task, tasks.RunAttempt)
    size = len(encode(Message(meta, task)))
    assert 1_700_000 < size < OUTPUT_BYTES_MAX - BESIDE_BYTES_MAX
    history.check()


def test_what_counts_is_never_less_than_what_is_written() -> None:
    bench, run = bench_of(BENCH_BYTES_MAX), run_of(RUN_BYTES_MAX)
    task = tasks.RunAttempt(execution_id="e", attempt=1, fence=1, bench=bench, run=run)
    history = History()
    history.ask(benches("b1"))
    history.report(started())
    history.ask(submit("e1"))
    ((meta, _),) = history.orders
    assert len(encode(Message(meta, task))) < bench_bytes(bench) + run_bytes(run) + BESIDE_BYTES_MAX


def test_more_is_refused_with_what_is_allowed() -> None:
    history = History()
    (refused,) = history.ask(replace(benches(), benches=(bench_of(BENCH_BYTES_MAX + 1),)))
    assert isinstance(refused, facts.CommandRejected)
    assert (refused.code, "1000001 bytes, 1000000" in refused.reason) == ("invalid_bench", True)
    history.ask(benches("b1"))
    (refused,) = history.ask(submit("e1", run=run_of(RUN_BYTES_MAX + 1)))
    assert isinstance(refused, facts.CommandRejected)
    assert (refused.code, "1000001 bytes, 1000000" in refused.reason) == ("invalid_run", True)
    history.check()
