"""Which worker serves which bench, and why none does. Pure.

A worker that began a life with an identity serves a bench once its adapter has looked at it as it
is registered now and taken it; one of an older version, which cannot be asked, takes all.
"""

from collections.abc import Iterable, Iterator, Sequence

from events.facts import BenchChecksRecorded, BenchOffline, BenchOnline, Event
from events.reports import BenchesChecked
from events.shared import BenchCheck, BenchChecked
from events.tasks import CheckBenches
from processors.scheduler.decision import Effect, Ignored, Order
from processors.scheduler.sizes import BENCH_BYTES_MAX, bench_bytes
from processors.scheduler.state import Bench, Checked, Pool, Worker

CHECKS_PER_TASK_MAX = 500
REFUSED = "refused by worker "
SUSPENDED = " is suspended: "


def presence(
    pool: Pool, names: Iterable[str], reason: str, *, is_news: bool = False
) -> Sequence[Event]:
    """Return which benches came online or went offline, or are offline for another reason.

    `reason` is told where nothing more is known; with `is_news` also that a check is awaited by a
    bench that was refused as it was registered before.
    """
    changed: list[Event] = []
    for name in sorted(names):
        bench = pool.benches[name]
        if pool.is_served(bench):
            if not bench.is_online:
                changed.append(BenchOnline(bench=name))
            continue
        told = _why(pool, bench, reason, is_news=is_news)
        if told and told != bench.offline:
            changed.append(BenchOffline(bench=name, reason=told))
    return changed


def _why(pool: Pool, bench: Bench, reason: str, *, is_news: bool) -> str:
    """Return what to tell of a bench that nobody serves; empty: nothing new."""
    why = _refusal(pool, bench)
    if why:
        return why
    was_refused = bench.offline.startswith(REFUSED) or SUSPENDED in bench.offline
    awaited = next(_unchecked(pool, bench), None)
    if awaited is not None and (bench.is_online or (is_news and was_refused)):
        return f"worker {awaited.id} is to check it"
    return reason if bench.is_online or (was_refused and awaited is None) else ""


def _refusal(pool: Pool, bench: Bench) -> str:
    fit = [worker for worker in _able(pool, bench) if not worker.is_draining]
    for worker in fit:
        checked = worker.checks.get(bench.spec.name)
        if worker.life and checked and checked.version == bench.version and checked.code:
            return f"{REFUSED}{worker.id}: {checked.reason} ({checked.code})"
    for worker in fit:
        if worker.suspended:
            return f"worker {worker.id}{SUSPENDED}{worker.why_suspended}"
    return ""


def _able(pool: Pool, bench: Bench) -> Iterator[Worker]:
    for worker_id in sorted(pool.workers):
        worker = pool.workers[worker_id]
        if worker.is_for(bench.spec.adapter, bench.spec.name):
            yield worker


def _unchecked(pool: Pool, bench: Bench) -> Iterator[Worker]:
    for worker in _able(pool, bench):
        checked = worker.checks.get(bench.spec.name)
        is_known = checked is not None and checked.version == bench.version
        if worker.life and not worker.is_draining and not is_known:
            yield worker


def check_orders(pool: Pool, worker: Worker, names: Iterable[str]) -> Iterator[Order]:
    """Yield the orders to look at those of the benches that `worker` has not taken yet."""
    if not worker.life or worker.is_draining:
        return
    part: list[BenchCheck] = []
    part_bytes = 0
    for name in sorted(names):
        bench = pool.benches[name]
        if not worker.is_for(bench.spec.adapter, name) or worker.accepts(bench):
            continue
        size = bench_bytes(bench.spec)
        if part and (part_bytes + size > BENCH_BYTES_MAX or len(part) >= CHECKS_PER_TASK_MAX):
            yield _order(worker, part)
            part, part_bytes = [], 0
        part.append(BenchCheck(bench=bench.spec, version=bench.version))
        part_bytes += size
    if part:
        yield _order(worker, part)


def _order(worker: Worker, part: Sequence[BenchCheck]) -> Order:
    return Order(worker=worker.id, epoch=worker.epoch, task=CheckBenches(benches=tuple(part)))


def benches_checked(pool: Pool, worker: Worker, report: BenchesChecked) -> Sequence[Effect]:
    """Return what follows from a worker's answer: what it says of other versions is void."""
    current = tuple(each for each in report.checks if _is_current(pool, each))
    if not current:
        return [Ignored(reason="other_version")]
    news = tuple(
        each
        for each in current
        if worker.checks.get(each.bench) != Checked(each.version, each.code, each.reason)
    )
    if not news:
        return [Ignored(reason="repeat")]
    return [BenchChecksRecorded(worker=worker.id, epoch=worker.epoch, checks=news)]


def _is_current(pool: Pool, checked: BenchChecked) -> bool:
    bench = pool.benches.get(checked.bench)
    return bench is not None and bench.version == checked.version
