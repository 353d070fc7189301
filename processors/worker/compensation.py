"""Tearing down what another life or worker left, by its handle alone. Never runs a test."""

import asyncio
from collections.abc import Mapping

import structlog

from adapters.contract import Adapter, Handle
from events.reports import BenchTornDown
from events.shared import TaskMeta
from events.tasks import TearDownBench
from processors.worker.asked import attempt_id, bench_of
from processors.worker.bench_calls import BenchCalls
from processors.worker.calls import Strays, limited
from processors.worker.faults import plain
from processors.worker.masking import Masker
from processors.worker.notes import Leftover
from processors.worker.outbox import Outbox
from processors.worker.settings import WorkerSettings
from processors.worker.state_dir import StateDir

log = structlog.get_logger()
ERROR_CHARS_MAX = 1_000


async def tear_down_bench(
    task: TearDownBench,
    meta: TaskMeta,
    *,
    adapters: Mapping[str, Adapter],
    settings: WorkerSettings,
    strays: Strays,
    outbox: Outbox,
) -> None:
    """Tear down and report, whether it worked or not."""
    adapter = adapters.get(task.bench.adapter)
    if adapter is None:
        error = f"this worker has no adapter {task.bench.adapter!r}: install or route it"
    else:
        error = await _free(task, adapter, settings=settings, strays=strays)
    log.info("bench.torn_down", bench=task.bench.name, execution_id=task.execution_id, error=error)
    report = BenchTornDown(
        execution_id=task.execution_id,
        attempt=task.attempt,
        fence=task.fence,
        bench=task.bench.name,
        error=error,
    )
    await outbox.put(report, correlation_id=meta.correlation_id, traceparent=meta.traceparent)


async def _free(
    task: TearDownBench, adapter: Adapter, *, settings: WorkerSettings, strays: Strays
) -> str:
    """Tear down; return why the bench is not clean, or nothing if it is."""
    bench = task.bench
    calls = BenchCalls(adapter, bench.name, bench.steps, settings=settings, strays=strays)
    try:
        handle = (
            Handle(task.handle)
            if task.handle is not None
            else adapter.handle_for(attempt_id(task), bench_of(bench))
        )
        await calls.free(handle)
    except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
        mask = Masker({}, (), settings.secrets)
        return plain(mask(calls.why_not_clean(error)))[:ERROR_CHARS_MAX]
    return ""


async def clear_leftovers(
    *,
    adapters: Mapping[str, Adapter],
    settings: WorkerSettings,
    strays: Strays,
    state: StateDir,
    is_first_life: bool,
) -> None:
    """Tear down what earlier lives of this worker left on this machine, in limited time.

    What cannot be torn down stays noted for the next life; the scheduler's own compensation
    decides about the bench.
    """
    try:
        async with asyncio.timeout(settings.leftovers_s):
            await _clear_all(adapters, settings, strays, state, is_first_life=is_first_life)
    except TimeoutError:
        log.warning("worker.leftovers_stay", limit_s=settings.leftovers_s)


async def _clear_all(
    adapters: Mapping[str, Adapter],
    settings: WorkerSettings,
    strays: Strays,
    state: StateDir,
    *,
    is_first_life: bool,
) -> None:
    async with asyncio.TaskGroup() as group:
        for leftover in state.leftovers():
            adapter = adapters.get(leftover.adapter)
            if adapter is None:
                log.warning("worker.leftover_without_adapter", adapter=leftover.adapter)
                continue
            group.create_task(_clear_noted(adapter, leftover, settings, strays, state))
    if not is_first_life:
        return
    for name in sorted(adapters):
        try:
            handles = await limited(
                adapters[name].leftovers(),
                name="leftovers",
                limit_s=settings.steps.teardown_s,
                cancel_s=settings.steps.cancel_s,
                abandon_s=settings.steps.cancel_s,
                strays=strays,
            )
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            log.warning("worker.leftovers_unknown", adapter=name, error=repr(error))
            continue
        for handle in handles:
            calls = BenchCalls(adapters[name], "", settings=settings, strays=strays)
            await _clear(handle, calls, settings)


async def _clear_noted(
    adapter: Adapter,
    leftover: Leftover,
    settings: WorkerSettings,
    strays: Strays,
    state: StateDir,
) -> None:
    calls = BenchCalls(adapter, leftover.bench, settings=settings, strays=strays)
    if await _clear(Handle(leftover.handle), calls, settings):
        state.forget(leftover)


async def _clear(handle: Handle, calls: BenchCalls, settings: WorkerSettings) -> bool:
    try:
        await calls.free(handle)
    except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
        text = Masker({}, (), settings.secrets)(repr(error))
        log.warning("worker.leftover_stays", handle=handle, error=text)
        return False
    log.info("worker.leftover_torn_down", handle=handle)
    return True
