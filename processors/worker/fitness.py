"""Whether this worker can run attempts at all: whether its state folder takes what one must write.

The worker notices it by itself, before and between attempts, says so once and takes none until the
folder works again. Never judges a bench.
"""

import asyncio
from dataclasses import replace

import structlog

from events.reports import WorkerFaulty, WorkerRecovered
from processors.artifacts.files import Offload
from processors.worker.faults import is_of_a_disk
from processors.worker.outbox import Outbox
from processors.worker.registration import Identity
from processors.worker.settings import WorkerSettings
from processors.worker.state_dir import StateDir, StateUnreadable
from processors.worker.telemetry import Telemetry
from processors.worker.verdict import Fault, Outcome

log = structlog.get_logger()
CODE = "state_unusable"


class Fitness:
    """The fitness of one life. `watch` runs beside it."""

    def __init__(
        self,
        state: StateDir,
        *,
        identity: Identity,
        settings: WorkerSettings,
        outbox: Outbox,
        offload: Offload,
        telemetry: Telemetry,
    ) -> None:
        self._state = state
        self._identity = identity
        self._settings = settings
        self._outbox = outbox
        self._offload = offload
        self._telemetry = telemetry
        self._probing: asyncio.Future[str] | None = None
        self.reason = ""
        """Why it takes no attempts, and what to do; empty: it takes them."""

    async def watch(self) -> None:
        """Look now, and then again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.probe_s)

    async def look(self) -> None:
        """Try the folder now, and say what has changed since the last time."""
        fault = await self._fault()
        if fault and not self.reason:
            await self.failed(fault)
        elif self.reason and not fault:
            self.reason = ""
            self._telemetry.unfit(is_unfit=False)
            log.info("worker.fit_again", worker=self._settings.worker)
            await self._outbox.put(WorkerRecovered(reason="its state folder works again"))

    async def blamed(self, fault: Fault, error: Exception) -> Fault:
        """Return a bench's `fault` as this worker's if it was a disk, and its own does not work."""
        if fault.whose == "bench" and is_of_a_disk(error):
            await self.look()
            if self.reason:
                return replace(fault, code="worker_exhausted", whose="worker")
        return fault

    async def excused(self, outcome: Outcome) -> Outcome:
        """Return how an attempt ended, after a look before its end is said, or more would come.

        A test that failed on a folder that does not work, also now that the test's own files are
        gone, may have failed of that: then it is this worker's error.
        """
        if outcome.fault in ("worker", "test"):
            await self.look()
        if not self.reason or (outcome.verdict, outcome.fault) != ("failed", "test"):
            return outcome
        return replace(
            outcome,
            verdict="error",
            code="worker_exhausted",
            reason=f"{self.reason}; there the test ended so: {outcome.reason}",
            is_retriable=True,
            fault="worker",
        )

    async def failed(self, reason: str) -> None:
        """Take no attempts any more; whoever gives some is told, and told again."""
        self.reason = reason
        self._telemetry.unfit(is_unfit=True)
        log.error("worker.unfit", worker=self._settings.worker, reason=reason)
        await self._outbox.put(WorkerFaulty(code=CODE, reason=reason))

    async def _fault(self) -> str:
        """Return what is wrong. A probe that hangs is waited for no longer, and not begun again."""
        probing = self._probing
        if probing is None:
            probing = self._probing = asyncio.ensure_future(self._offload(self._tried))
        await asyncio.wait({probing}, timeout=self._settings.probe_limit_s)
        if not probing.done():
            return (
                f"the state folder {self._settings.state_dir} does not answer within "
                f"{self._settings.probe_limit_s:g} s: look at its disk or mount"
            )
        if self._probing is probing:  # Others may have waited for it too.
            self._probing = None
        try:
            return probing.result()
        except (RuntimeError, OSError) as error:  # No thread could be started to look.
            return f"the machine of {self._settings.worker} has run out: {error}; free some of it"

    def _tried(self) -> str:
        try:
            self._state.probe()
            self._state.raise_epoch(self._identity.epoch)  # One that came back empty learns it.
        except StateUnreadable as error:
            return str(error)
        return ""
