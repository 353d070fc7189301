"""The workers of one process, one for each pool: one that cannot serve keeps no other from it.

Never ends while a pool is served; a process in which no pool can be ends with the error.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from events.errors import TeoError
from processors.worker.fences import FenceFell

log = structlog.get_logger()
RETRY_S_FIRST = 2.0
RETRY_S_MAX = 60.0


class Serving(Protocol):
    """A worker, as far as it is seen here."""

    @property
    def is_registered(self) -> bool: ...
    async def run(self) -> None: ...
    def drain(self, reason: str = ...) -> None: ...


class PoolWorkers:
    """Workers by pool. `make(pool, is_first)` returns a worker that was not run yet.

    With `may_grow` more pools may come, so a pool that cannot be served is not the last word before
    it was tried again.
    """

    def __init__(self, make: Callable[[str, bool], Serving], *, may_grow: bool) -> None:
        self._make = make
        self._may_grow = may_grow
        self._workers: dict[str, Serving | None] = {}
        """None while a pool cannot be served."""
        self._faults: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self.all_left = asyncio.Event()
        """Set once every worker has left in good order."""

    @property
    def is_ready(self) -> bool:
        """True if every pool is served."""
        return all(self._is_served(pool) for pool in self._workers)

    def faults(self) -> Mapping[str, str]:
        """Return why pools are not served, by pool."""
        return {pool: why for pool, why in self._faults.items() if not self._is_served(pool)}

    def _is_served(self, pool: str) -> bool:
        worker = self._workers.get(pool)
        return worker is not None and worker.is_registered

    def drain(self) -> None:
        """Have every worker leave; those that cannot serve are not tried again."""
        self._stopping.set()
        for worker in self._workers.values():
            if worker is not None:
                worker.drain()

    async def serve(self, pool: str) -> None:
        """Serve a pool until its worker has left. Raises what keeps the last pool from it."""
        retry_s, is_first = RETRY_S_FIRST, True
        self._workers[pool] = None
        while not self._stopping.is_set():
            try:
                worker = self._workers[pool] = self._make(pool, is_first)
                await worker.run()
                break
            except TeoError as error:
                fault = error
            self._workers[pool], self._faults[pool] = None, f"{fault.code}: {fault}"
            is_final = isinstance(fault, FenceFell)
            log.error(
                "worker.pool_not_served",
                pool=pool,
                code=fault.code,
                error=str(fault),
                retry_s=None if is_final else retry_s,
            )
            if not self._may_grow or not is_first:
                self._end_if_none_serves(fault)
            await self._pause(None if is_final else retry_s)
            self._end_if_none_serves(fault)
            retry_s, is_first = min(2 * retry_s, RETRY_S_MAX), False
        log.info("worker.left", pool=pool)
        del self._workers[pool]
        self._faults.pop(pool, None)
        if not self._workers:
            self.all_left.set()

    def _end_if_none_serves(self, fault: TeoError) -> None:
        has_any = any(worker is not None for worker in self._workers.values())
        if not has_any and not self._stopping.is_set():
            raise fault

    async def _pause(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            return
