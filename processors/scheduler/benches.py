"""Decides what operators ask of benches. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from adapters.grammar import shown, wrong_labels, wrong_name
from events.commands import ApplyBenches, QuarantineBench, RestoreBench
from events.facts import (
    BenchQuarantined,
    BenchRegistered,
    BenchRestored,
    CommandRejected,
    Event,
    HealthPolicySet,
)
from events.limits import (
    BENCHES_PER_COMMAND_MAX,
    HEALTH_ERRORS_MAX,
    HEALTH_WINDOW_S_MAX,
    STEP_BACKOFF_S_MAX,
    STEP_RETRIES_MAX,
    STEP_S_MAX,
)
from events.shared import BenchSpec, HealthPolicy
from processors.scheduler.decision import Effect
from processors.scheduler.rejection import reject
from processors.scheduler.service import check_orders
from processors.scheduler.sizes import BENCH_BYTES_MAX, bench_bytes
from processors.scheduler.state import Pool

STEPS_WITH_POLICY = ("provision", "collect", "teardown")
"""The run step is not among them: its limit comes with the run, and tests are not run twice."""


def apply_benches(pool: Pool, command: ApplyBenches) -> Iterable[Effect]:
    """Register every bench as described; one that is known is changed."""
    names = [bench.name for bench in command.benches]
    has_rule_only = command.health is not None and bool(pool.benches) and not names
    if not all(names) or not (names or has_rule_only):
        return [reject(command, "invalid_bench", "every bench needs a name; name at least one")]
    if len(names) > BENCHES_PER_COMMAND_MAX:
        reason = f"{len(names)} benches at once, {BENCHES_PER_COMMAND_MAX} allowed; send parts"
        return [reject(command, "invalid_bench", reason)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return [reject(command, "invalid_bench", f"named twice: {', '.join(twice)}")]
    for fault in (
        _text_fault(pool, command.benches),
        _steps_fault(command.benches),
        _size_fault(command.benches),
        _health_fault(command.health),
    ):
        if fault is not None:
            return [reject(command, "invalid_bench", fault)]
    rules = [HealthPolicySet(health=command.health)] if command.health is not None else []
    return _applied(pool, command.benches, rules)


def _applied(
    pool: Pool, benches: Sequence[BenchSpec], rules: Sequence[HealthPolicySet]
) -> Iterator[Effect]:
    """Yield the facts, then the orders to look at the benches, which are registered by then."""
    yield from (BenchRegistered(bench=bench) for bench in benches)
    yield from rules
    names = [bench.name for bench in benches]
    for worker_id in sorted(pool.workers):
        yield from check_orders(pool, pool.workers[worker_id], names)


def _text_fault(pool: Pool, benches: Iterable[BenchSpec]) -> str | None:
    """Return what is wrong with a name or a label; what is known by its name keeps it."""
    if not pool.benches and (wrong := wrong_name(pool.name, "pool")):
        return str(wrong)
    for bench in benches:
        known = pool.benches.get(bench.name)
        if known is None and (wrong := wrong_name(bench.name, "bench")):
            return str(wrong)
        if wrong := wrong_name(bench.adapter, "adapter") or wrong_labels(bench.labels):
            return f"bench {shown(bench.name)}: {wrong}"
    return None


def _steps_fault(benches: Iterable[BenchSpec]) -> str | None:
    for bench in benches:
        steps = [policy.step for policy in bench.steps]
        for policy in bench.steps:
            where = f"bench {bench.name}, step {policy.step}"
            if policy.step not in STEPS_WITH_POLICY:
                return f"{where}: limits can be set for {', '.join(STEPS_WITH_POLICY)}"
            if steps.count(policy.step) > 1:
                return f"{where}: named twice"
            if policy.timeout_s is not None and not 0 < policy.timeout_s <= STEP_S_MAX:
                return f"{where}: a timeout is more than 0 and at most {STEP_S_MAX:.0f} s"
            if not 0 <= policy.retries <= STEP_RETRIES_MAX:
                return f"{where}: retries are from 0 to {STEP_RETRIES_MAX}"
            if not 0 <= policy.backoff_s <= STEP_BACKOFF_S_MAX:
                return f"{where}: a backoff is from 0 to {STEP_BACKOFF_S_MAX:.0f} s"
    return None


def _size_fault(benches: Iterable[BenchSpec]) -> str | None:
    for bench in benches:
        if (size_bytes := bench_bytes(bench)) > BENCH_BYTES_MAX:
            return (
                f"bench {shown(bench.name)} takes {size_bytes} bytes, "
                f"{BENCH_BYTES_MAX} allowed; put data into files that its configuration names"
            )
    return None


def _health_fault(health: HealthPolicy | None) -> str | None:
    if health is None:
        return None
    if not 0 <= health.errors_max <= HEALTH_ERRORS_MAX:
        return f"health: errors_max is {health.errors_max}; it is from 0 to {HEALTH_ERRORS_MAX}"
    if not 0 < health.window_s <= HEALTH_WINDOW_S_MAX:
        return f"health: a window is more than 0 and at most {HEALTH_WINDOW_S_MAX:.0f} s"
    return None


def quarantine_bench(pool: Pool, command: QuarantineBench) -> Sequence[Event]:
    """Take a bench out of placement; who holds it keeps it."""
    if command.bench not in pool.benches:
        return [no_such_bench(pool, command, command.bench)]
    if why := pool.benches[command.bench].quarantine:
        reason = f"bench {command.bench} is in quarantine already: {why}"
        return [reject(command, "already_quarantined", reason, command.bench)]
    return [BenchQuarantined(bench=command.bench, reason=command.reason or "by an operator")]


def restore_bench(pool: Pool, command: RestoreBench) -> Sequence[Event]:
    """Give a quarantined bench back to placement."""
    bench = pool.benches.get(command.bench)
    if bench is None:
        return [no_such_bench(pool, command, command.bench)]
    if not bench.quarantine:
        reason = f"bench {command.bench} is not in quarantine: nothing to restore"
        return [reject(command, "not_quarantined", reason, command.bench)]
    return [BenchRestored(bench=command.bench)]


def no_such_bench(
    pool: Pool, command: QuarantineBench | RestoreBench, name: str
) -> CommandRejected:
    """Return the refusal of a command for a bench that `pool` does not have."""
    reason = f"pool {pool.name} has no bench {name}; `teo bench list` shows what there is"
    return reject(command, "no_such_bench", reason, name)
