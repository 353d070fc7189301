"""What an adapter is asked to do with one bench, and what of that was left behind.

A call that ignores its cancel may still drive the bench. Such a bench is never provisioned, and
never called clean: only a teardown makes it so that began when nothing was left. Collect and
teardown go on beside it: evidence is lost otherwise, and a teardown may end what nothing else does.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from adapters.contract import Adapter, Attempt, Handle
from events.shared import StepPolicy
from processors.worker.calls import StepTimedOut, Strays, limited
from processors.worker.clock import monotonic_s
from processors.worker.faults import is_out
from processors.worker.settings import WorkerSettings
from processors.worker.tries import policy_of, tried

T = TypeVar("T")
OUT_POLL_S = 0.5
"""Until the next try of a teardown for which the machine had no room."""


class StepLeftBehind(StepTimedOut):
    """Raised when a call that ignored its cancel is still alive where nothing else may be."""

    code = "left_behind"


class BenchCalls:
    """The calls of one attempt, or of one compensation, on its bench."""

    def __init__(
        self,
        adapter: Adapter,
        bench: str,
        steps: Sequence[StepPolicy] = (),
        *,
        settings: WorkerSettings,
        strays: Strays,
    ) -> None:
        self._adapter = adapter
        self._bench = bench
        self._steps = steps
        self._settings = settings
        self._strays = strays
        self._disturbed_by = ""
        """What was still alive when the last teardown began, and may have undone it."""

    def policy(self, step: str) -> StepPolicy:
        """Return the limits of a step: the bench's, else the worker's."""
        limits = self._settings.steps
        default_s = {
            "provision": limits.provision_s,
            "collect": limits.collect_s,
            "teardown": limits.teardown_s,
        }
        return policy_of(self._steps, step, timeout_s=default_s[step])

    async def make(
        self,
        step: str,
        call: Callable[[], Coroutine[Any, Any, T]],
        limit_s: float,
        *,
        cut: asyncio.Event | None = None,
        cancel_s: float | None = None,
    ) -> T:
        """Return what `call` returns. It begins once no earlier try of its step is alive.

        Raises `StepTimedOut`, `StepLeftBehind` or `StepCut`.
        """
        left_s = await self._wait(self._strays.on(self._bench, step), limit_s, cut)
        limits = self._settings.steps
        return await limited(
            call(),
            name=step,
            limit_s=left_s,
            cancel_s=limits.cancel_s if cancel_s is None else cancel_s,
            abandon_s=self._settings.abandon_s,
            strays=self._strays,
            cut=cut,
            bench=self._bench,
        )

    async def provision(
        self, attempt: Attempt, handle: Handle, limit_s: float, cut: asyncio.Event
    ) -> Handle:
        """Provision once, when nothing at all is alive on the bench any more."""
        left_s = await self._wait(self._strays.on(self._bench), limit_s, cut)
        if self._disturbed_by:
            await self.tear_down(handle)
        return await self.make(
            "provision", lambda: self._adapter.provision(attempt), left_s, cut=cut
        )

    async def tear_down(self, handle: Handle) -> None:
        """Tear down, with the tries of the step; this alone does not make the bench clean."""

        async def call(limit_s: float) -> None:
            until = monotonic_s() + limit_s
            while True:
                left_s = max(0.0, until - monotonic_s())
                try:
                    return await self.make("teardown", lambda: self._teardown(handle), left_s)
                except Exception as error:
                    # A test that filled the machine is over: there will be room in a moment.
                    if not is_out(error) or monotonic_s() + OUT_POLL_S >= until:
                        raise
                await asyncio.sleep(OUT_POLL_S)

        await tried(self.policy("teardown"), call)

    async def free(self, handle: Handle) -> None:
        """Tear down so that the bench can be given away; raises if it cannot.

        What is alive when the teardown begins may be ended by it, and may have undone it: so the
        bench is torn down again once that has ended.
        """
        await self.tear_down(handle)
        if self._disturbed_by:
            await self._wait(self._strays.on(self._bench), self._settings.steps.cancel_s)
            await self.tear_down(handle)

    async def free_at_once(self, handle: Handle) -> None:
        """Free the bench in the little time a life has that is over; raises if it is not clean."""
        limit_s = self._settings.fence_teardown_s
        await self.make("teardown", lambda: self._teardown(handle), limit_s)
        if self._disturbed_by:
            raise StepLeftBehind(self._disturbed_by)

    def why_not_clean(self, error: Exception) -> str:
        """Return what to tell people of a bench whose teardown ended with `error`."""
        if isinstance(error, StepLeftBehind):
            return str(error)
        text, alive = f"{type(error).__name__}: {error}", self._alive()
        return f"{text}; {alive}" if alive else text

    async def _teardown(self, handle: Handle) -> None:
        self._disturbed_by = self._alive()
        await self._adapter.teardown(handle)

    async def _wait(
        self,
        left: Sequence[asyncio.Task[Any]],
        limit_s: float,
        cut: asyncio.Event | None = None,
    ) -> float:
        """Wait until all of `left` have ended; return how much of `limit_s` is left then."""
        if not left:
            return limit_s
        until = monotonic_s() + limit_s
        try:
            await limited(
                _ended(left),
                name="wait",
                limit_s=limit_s,
                cancel_s=self._settings.steps.cancel_s,
                abandon_s=self._settings.abandon_s,
                strays=self._strays,
                cut=cut,
            )
        except StepTimedOut:
            raise StepLeftBehind(self._alive()) from None
        return max(0.0, until - monotonic_s())

    def _alive(self) -> str:
        """Return what to say of the calls that may still drive the bench; empty: there is none."""
        names = sorted({task.get_name() for task in self._strays.on(self._bench)})
        if not names:
            return ""
        return (
            f"{' and '.join(names)} did not end when cancelled and may still drive the bench: end "
            f"the process of worker {self._settings.worker}, look at the bench, then restore it"
        )


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)
