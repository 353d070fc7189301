"""Looks at benches for the scheduler before anything runs there: the adapters' own `check`.

A check changes nothing, but may speak to the bench: one that an attempt is on is looked at once
that is over. Benches that were refused are looked at again now and then, and what has changed is
said; an order is always answered whole.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from adapters.contract import Adapter, AdapterError
from events.reports import BenchesChecked
from events.shared import BenchCheck, BenchChecked
from events.tasks import CheckBenches
from processors.worker.asked import bench_of
from processors.worker.calls import StepTimedOut, Strays, limited
from processors.worker.faults import plain
from processors.worker.outbox import Outbox
from processors.worker.settings import WorkerSettings

log = structlog.get_logger()
AT_ONCE_MAX = 8
BUSY_POLL_S = 0.5
SAY_S = 1.0
"""What is known by then is said, whatever other benches of the same order take."""
REASON_CHARS_MAX = 500


class BenchChecks:
    """The checks of one life. `run` is called once, beside it."""

    def __init__(
        self,
        *,
        adapters: Mapping[str, Adapter],
        settings: WorkerSettings,
        strays: Strays,
        outbox: Outbox,
        is_busy: Callable[[str], bool],
    ) -> None:
        self._adapters = adapters
        self._settings = settings
        self._strays = strays
        self._outbox = outbox
        self._is_busy = is_busy
        self._orders: asyncio.Queue[CheckBenches] = asyncio.Queue()
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._newest: dict[str, int] = {}
        """Version of each bench that was ordered last: of older ones nothing is said."""
        self._refused: dict[str, tuple[BenchCheck, BenchChecked]] = {}

    def order(self, task: CheckBenches) -> None:
        """Take an order; returns at once."""
        self._newest |= {each.bench.name: each.version for each in task.benches}
        self._orders.put_nowait(task)

    async def run(self) -> None:
        """Answer orders, and look again at what was refused, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(), name="check again")
            while True:
                task = await self._orders.get()
                group.create_task(self._answer(task.benches), name="check")

    async def _again(self) -> None:
        while True:
            await asyncio.sleep(self._settings.check_again_s)
            await self._answer([check for check, _ in self._refused.values()], only_news=True)

    async def _answer(self, benches: Iterable[BenchCheck], *, only_news: bool = False) -> None:
        looking = {asyncio.ensure_future(self._look(check)) for check in benches}
        try:
            while looking:
                done, looking = await asyncio.wait(looking, timeout=SAY_S)
                await self._say([each.result() for each in done], only_news=only_news)
        finally:
            for each in looking:
                each.cancel()

    async def _say(
        self, looked: Iterable[tuple[BenchCheck, BenchChecked]], *, only_news: bool
    ) -> None:
        said = []
        for check, checked in sorted(looked, key=lambda each: each[1].bench):
            if self._newest.get(checked.bench) != checked.version:
                continue
            _, before = self._refused.pop(checked.bench, (check, None))
            if checked.code:
                self._refused[checked.bench] = (check, checked)
            if checked != before or not only_news:
                said.append(checked)
        if said:
            await self._outbox.put(BenchesChecked(checks=tuple(said)))

    async def _look(self, check: BenchCheck) -> tuple[BenchCheck, BenchChecked]:
        name = check.bench.name
        while self._is_busy(name):  # noqa: ASYNC110 - an attempt has many ways to be over.
            await asyncio.sleep(BUSY_POLL_S)
        async with self._at_once:
            code, reason = await self._refusal(check)
        if code:
            log.info("bench.refused", bench=name, code=code, reason=reason)
        reason = plain(reason)[:REASON_CHARS_MAX]
        return check, BenchChecked(bench=name, version=check.version, code=code, reason=reason)

    async def _refusal(self, check: BenchCheck) -> tuple[str, str]:
        """Return code and reason of the adapter's refusal; both empty: it takes the bench."""
        name = check.bench.adapter
        adapter = self._adapters.get(name)
        if adapter is None:
            return "no_such_adapter", f"worker {self._settings.worker} has no adapter {name!r}"
        limits = self._settings.steps
        try:
            await limited(
                adapter.check(bench_of(check.bench)),
                name="check",
                limit_s=limits.check_s,
                cancel_s=limits.cancel_s,
                abandon_s=self._settings.abandon_s,
                strays=self._strays,
            )
        except AdapterError as error:
            return error.code or "refused", str(error) or error.code
        except StepTimedOut as error:
            return "check_timeout", str(error)
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            return "adapter_bug", f"adapter {name!r} broke: {type(error).__name__}: {error}"
        return "", ""
