"""Decides what operators ask of benches. Pure."""

from collections.abc import Sequence

from events.commands import ApplyBenches, QuarantineBench, RestoreBench
from events.facts import (
    BenchQuarantined,
    BenchRegistered,
    BenchRestored,
    CommandRejected,
    Event,
)
from processors.scheduler.rejection import reject
from processors.scheduler.state import Pool

BENCHES_PER_COMMAND_MAX = 500


def apply_benches(command: ApplyBenches) -> Sequence[Event]:
    """Register every bench as described; one that is known is changed."""
    names = [bench.name for bench in command.benches]
    if not names or not all(names):
        return [reject(command, "invalid_bench", "every bench needs a name; name at least one")]
    if len(names) > BENCHES_PER_COMMAND_MAX:
        reason = f"{len(names)} benches at once, {BENCHES_PER_COMMAND_MAX} allowed; send parts"
        return [reject(command, "invalid_bench", reason)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return [reject(command, "invalid_bench", f"named twice: {', '.join(twice)}")]
    return [BenchRegistered(bench=bench) for bench in command.benches]


def quarantine_bench(pool: Pool, command: QuarantineBench) -> Sequence[Event]:
    """Take a bench out of placement; who holds it keeps it."""
    if command.bench not in pool.benches:
        return [no_such_bench(pool, command, command.bench)]
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
