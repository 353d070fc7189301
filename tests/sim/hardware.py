"""The benches as things in the world: they see which tests really drive them, and object to two."""

import asyncio
import json
from pathlib import Path

from adapters.contract import Attempt, Exit, Handle, Lease, OnLines
from adapters.mock import MockAdapter
from tests.sim.checkers import Violated

DEAF_BENCH = "b2"


class Hardware:
    """All benches of a lab, and the attempt that drives each now."""

    def __init__(self) -> None:
        self.driven_by: dict[str, str] = {}
        self.driven_with: dict[Handle, str] = {}
        self.fences: dict[str, int] = {}
        self.runs = 0
        self.deaf_s = 0.0
        """How long a test on `DEAF_BENCH` goes on that is cancelled; 0: it ends at once."""
        self.deaf_runs = 0
        self.objections: list[str] = []
        """What must not have happened. Raised to whoever judges: a worker would take it for an
        adapter that broke, and go on."""

    def begin(self, attempt: Attempt, handle: Handle) -> None:
        """Take a test on; two at once, or a stale fence, break the first invariant."""
        bench, who = _place(attempt), f"{attempt.id.execution_id}/{attempt.id.number}"
        if bench in self.driven_by:
            self.objections.append(f"{who} drives {bench} while {self.driven_by[bench]} does")
        if attempt.id.fence <= self.fences.get(bench, 0):
            self.objections.append(f"{who} drives {bench} with a stale fence {attempt.id.fence}")
        check = attempt.bench.config.get("check")
        if isinstance(check, dict) and check.get("fail"):
            self.objections.append(f"{who} drives {bench}, which its adapter refuses")
        self.fences[bench] = attempt.id.fence
        self.driven_by[bench] = who
        self.driven_with[handle] = who
        self.runs += 1

    def tear_down(self, handle: Handle) -> None:
        """Switch a bench off; under a test that still drives it that fails the test."""
        if handle in self.driven_with and not self.deaf_s:
            self.objections.append(f"torn down under {self.driven_with[handle]}")

    def end(self, attempt: Attempt, handle: Handle) -> None:
        """Let go of a bench."""
        self.driven_with.pop(handle, None)
        who = f"{attempt.id.execution_id}/{attempt.id.number}"
        if self.driven_by.get(_place(attempt)) == who:
            del self.driven_by[_place(attempt)]

    async def cancelled(self, attempt: Attempt) -> None:
        """Go on as a call does that ignores its cancel, however often it is cancelled."""
        if not self.deaf_s or attempt.bench.name != DEAF_BENCH:
            return
        self.deaf_runs += 1
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.deaf_s
        while (left_s := until_s - loop.time()) > 0:
            try:
                await asyncio.sleep(left_s)
            except asyncio.CancelledError:
                continue

    def judge(self) -> None:
        """Raise the first objection, if there is any."""
        if self.objections:
            raise Violated("; ".join(self.objections))


def _place(attempt: Attempt) -> str:
    return f"{attempt.bench.labels['pool']}/{attempt.bench.name}"


class HardwareAdapter(MockAdapter):
    """The mock adapter on benches that watch."""

    def __init__(self, state_dir: Path, hardware: Hardware) -> None:
        super().__init__(state_dir)
        self._hardware = hardware

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        self._hardware.begin(attempt, handle)
        try:
            return await super().run(attempt, handle, on_lines=on_lines, lease=lease)
        except asyncio.CancelledError:
            await self._hardware.cancelled(attempt)
            raise
        finally:
            self._hardware.end(attempt, handle)

    async def teardown(self, handle: Handle) -> None:
        self._hardware.tear_down(handle)
        await super().teardown(handle)


def config(**script: object) -> str:
    """Return the config of a mock bench."""
    return json.dumps(script)
