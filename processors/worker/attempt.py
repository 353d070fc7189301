"""One attempt, from its task to its last report: provision, run, collect, teardown.

Collect and teardown happen whatever happened before. Reports what was seen and nothing else;
whether it is tried again is decided elsewhere. A broken adapter ends here as a fault.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import structlog

from adapters.contract import (
    Adapter,
    Attempt,
    CannotStart,
    Collected,
    Handle,
    Lease,
    Line,
)
from events.shared import AttemptRef, StepPolicy, TaskMeta
from events.tasks import RunAttempt
from processors.artifacts.store import ArtifactStoreUnavailable
from processors.worker.asked import attempt_of
from processors.worker.bench_calls import BenchCalls
from processors.worker.calls import StepCut, StepTimedOut, limited
from processors.worker.cases import Cases
from processors.worker.environment import environment
from processors.worker.evidence import Evidence, Keeper
from processors.worker.faults import (
    NotStored,
    ReportTimedOut,
    fault_of,
    plain,
    with_exit,
    with_fault,
)
from processors.worker.logship import LogShipper
from processors.worker.masking import Masker
from processors.worker.notes import Leftover
from processors.worker.parts import Parts
from processors.worker.reporting import Reporting
from processors.worker.state_dir import StateUnreadable
from processors.worker.telemetry import current_traceparent
from processors.worker.tries import tried
from processors.worker.verdict import BROKEN, Cut, Outcome, Seen, judge

log = structlog.get_logger()
T = TypeVar("T")
LINES_PER_BREATH = 1_000
"""Lines taken from an adapter before others get their turn in the loop."""
TEARDOWN_ERROR_CHARS_MAX = 1_000
SHIP_END_S = 1.0
"""What a shipper of lines gets to stop once it is told to."""


class AttemptRunner:
    """Takes one attempt through its steps. `go` is called once, in a task of its own.

    Cancelled, it ends the test, tears the bench down and says nothing more: that is for a life of
    the worker that is over, whose words nobody would believe.
    """

    def __init__(
        self,
        task: RunAttempt,
        meta: TaskMeta,
        *,
        adapter: Adapter,
        parts: Parts,
        lease_until: float,
    ) -> None:
        self.ref = AttemptRef(execution_id=task.execution_id, attempt=task.attempt)
        self.fence = task.fence
        self.bench = task.bench.name
        self.lease = Lease(until=lease_until)
        self.is_over = False
        """True once its end is in the outbox: its slot and bench are free."""
        self._task = task
        self._meta = meta
        self._adapter = adapter
        self._parts = parts
        self._calls = BenchCalls(
            adapter, task.bench.name, task.bench.steps, settings=parts.settings, strays=parts.strays
        )
        self._cut = asyncio.Event()
        self._is_settled = False
        """True once the run is over: its result stands, whoever asks for its end."""
        self._seen = Seen()
        self._leftover: Leftover | None = None
        self._masker = Masker(task.run.env, parts.settings.secret_names, parts.settings.secrets)
        self._evidence = Evidence(Cases(parts.settings.evidence, self._masker))
        self._path = parts.state.log_path(task.execution_id, task.attempt, parts.epoch)
        self._teardown_error = ""
        self._reporting = Reporting(self.ref, fence=self.fence, meta=meta, outbox=parts.outbox)

    def cut(self, cut: Cut) -> None:
        """End the attempt early; the first cut counts. Once the run is over its result stands."""
        if self._cut.is_set() or self._is_settled:
            return
        self._seen = replace(self._seen, cut=cut)
        self._cut.set()

    async def go(self) -> None:
        """Run the attempt to its end and report it; returns once the log has its last report."""
        fields: dict[str, str | int] = {
            "teo.execution_id": self.ref.execution_id,
            "teo.attempt": self.ref.attempt,
            "teo.bench": self.bench,
        }
        try:
            with self._parts.telemetry.span("attempt", self._meta.traceparent, **fields):
                await self._steps()
                number = await self._end()
        except asyncio.CancelledError:
            if not self.is_over:
                await self._tear_down_quietly()
            raise
        except Exception:
            # Ours, or something an adapter gave that no report can carry: this attempt's end only.
            log.exception("attempt.broke", **self._names())
            await self._free()
            number = await self._say_end(BROKEN)
            self.is_over = True
        await self._parts.outbox.taken(number)

    async def _steps(self) -> None:
        try:
            attempt, handle = self._prepare()
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            await self._fail("provision", error)
            if isinstance(error, StateUnreadable):
                await self._parts.fitness.failed(str(error))
            return
        is_provisioned = await self._guarded("provision", self._provision(attempt, handle))
        if is_provisioned and not self._cut.is_set():
            await self._guarded("run", self._run(attempt, handle))
        self._is_settled = True
        if is_provisioned:
            await self._guarded("collect", self._collect(attempt, handle))
        await self._reporting.step("teardown")
        await self._free()

    def _prepare(self) -> tuple[Attempt, Handle]:
        """Return what the adapter is asked, after noting what will have to be torn down."""
        task = self._task
        grace_s = self._parts.settings.steps.grace_s
        attempt = attempt_of(task, env=self._environment(), grace_s=grace_s)
        handle = self._adapter.handle_for(attempt.id, attempt.bench)
        leftover = Leftover(
            execution_id=task.execution_id,
            attempt=task.attempt,
            fence=task.fence,
            bench=task.bench.name,
            adapter=task.bench.adapter,
            handle=handle,
            epoch=self._parts.epoch,
            pool=self._parts.settings.pool,
            prefix=self._parts.topics.prefix,
        )
        self._parts.state.remember(leftover)
        self._leftover = leftover
        return attempt, handle

    async def _guarded(
        self, step: Literal["provision", "run", "collect"], work: Coroutine[Any, Any, None]
    ) -> bool:
        """Do one step; return True if it did not break. Its span and its fault are made here."""
        try:
            with self._parts.telemetry.step(step):
                await work
        except StepCut:
            return False
        except CannotStart as error:
            self._seen = replace(self._seen, cannot_start=self._masker(str(error) or repr(error)))
            return False
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            await self._fail(step, error)
            return False
        return True

    async def _fail(self, step: str, error: Exception) -> None:
        fault = fault_of(step, error, adapter=self._task.bench.adapter)
        fault = await self._parts.fitness.blamed(fault, error)
        fault = replace(fault, reason=self._masker(fault.reason))
        log.warning("attempt.step_failed", step=step, reason=fault.reason, **self._names())
        self._seen = with_fault(self._seen, fault)
        if step == "collect" and fault.whose == "test" and self._task.run.junit:
            self._evidence.report_fault = "report_missing"  # By what the test did.

    async def _provision(self, attempt: Attempt, handle: Handle) -> None:
        """Provision, once the log knows the handle: whoever compensates for us needs it."""
        number = await self._reporting.step("provision", handle)
        taken = self._parts.outbox.taken(number)
        try:
            await self._limited("report", taken, self._parts.settings.deadline_s, self._cut)
        except StepTimedOut as error:
            raise ReportTimedOut(str(error)) from error

        async def call(limit_s: float) -> Handle:
            return await self._calls.provision(attempt, handle, limit_s, self._cut)

        async def clean() -> None:
            await self._calls.tear_down(handle)

        policy = self._calls.policy("provision")
        _, number = await tried(policy, call, between=clean, cut=self._cut)
        self._note_tries(policy, number)

    async def _run(self, attempt: Attempt, handle: Handle) -> None:
        """Run the command while its lines are shipped."""
        await self._reporting.step("run")
        parts = self._parts
        shipper = LogShipper(
            self.ref,
            fence=self.fence,
            path=self._path,
            log=parts.log,
            topics=parts.topics,
            limits=parts.settings.log,
            append_timeout_s=parts.settings.append_timeout_s,
            masker=self._masker,
            clock=parts.clock,
            telemetry=parts.telemetry,
        )
        shipping = asyncio.create_task(shipper.ship(), name="ship")
        flush_s = parts.settings.log.flush_s
        try:
            await self._command(replace(attempt, env=self._environment()), handle, shipper)
        except asyncio.CancelledError:
            flush_s = 0.0
            raise
        finally:
            self._is_settled = True
            shipper.end()
            try:
                await asyncio.wait({shipping}, timeout=flush_s)
            finally:
                await parts.strays.end(shipping, wait_s=SHIP_END_S)
            if shipper.note:
                self._evidence.notes.append(shipper.note)

    async def _command(self, attempt: Attempt, handle: Handle, shipper: LogShipper) -> None:
        async def on_lines(lines: Sequence[Line]) -> None:
            for number, line in enumerate(lines, start=1):
                shipper.line(line.text, line.stream == "stderr", goes_on=line.goes_on)
                if number % LINES_PER_BREATH == 0:
                    await asyncio.sleep(0)

        steps = self._parts.settings.steps
        # The adapter keeps the limit; ours is for an adapter that does not.
        limit_s = attempt.timeout_s + attempt.grace_s + steps.kill_s
        run = partial(self._adapter.run, attempt, handle, on_lines=on_lines, lease=self.lease)
        try:
            exit_ = await self._calls.make(
                "run", run, limit_s, cut=self._cut, cancel_s=steps.kill_s
            )
        except StepTimedOut as error:
            reason = f"over its limit of {attempt.timeout_s:g} s, and {error}"
            self._seen = replace(
                self._seen,
                cut=Cut(verdict="timed_out", code="timeout", reason=reason, fault="test"),
            )
            return
        self._seen = with_exit(self._seen, exit_, attempt)

    async def _collect(self, attempt: Attempt, handle: Handle) -> None:
        """Bring, store and report what the run left; its log first, whatever the adapter does."""
        await self._reporting.step("collect")
        settings, evidence = self._parts.settings, self._evidence
        keeper = Keeper(
            self.ref,
            pool=settings.pool,
            store=self._parts.store,
            limits=settings.evidence,
            masker=self._masker,
        )
        upload_s = settings.steps.upload_s
        try:
            if self._has_log():
                log_file = keeper.keep_file(self._path, "log.txt", "log", evidence)
                await self._limited("upload of log.txt", log_file, upload_s)
        except (ArtifactStoreUnavailable, StepTimedOut) as error:
            await self._fail("collect", NotStored(error))

        async def call(limit_s: float) -> Collected:
            collect = partial(self._adapter.collect, attempt, handle)
            return await self._calls.make("collect", collect, limit_s)

        policy = self._calls.policy("collect")
        collected, number = await tried(policy, call)
        self._note_tries(policy, number)
        try:
            keeping = keeper.keep(collected, evidence, asks_report=bool(attempt.junit))
            await self._limited("upload", keeping, upload_s)
        except (ArtifactStoreUnavailable, StepTimedOut) as error:
            raise NotStored(error) from error
        finally:
            await self._reporting.cases(self._evidence, settings.evidence)

    async def _free(self) -> None:
        """Tear down what was noted for that, and keep why the bench is not clean, if it is not."""
        if self._leftover is None:
            return
        try:
            with self._parts.telemetry.step("teardown"):
                await self._calls.free(Handle(self._leftover.handle))
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            text = self._calls.why_not_clean(error)
            self._teardown_error = plain(self._masker(text))[:TEARDOWN_ERROR_CHARS_MAX]
            log.warning("attempt.teardown_failed", error=self._teardown_error, **self._names())
        else:
            self._teardown_error = ""
            self._forget()

    def _note_tries(self, policy: StepPolicy, number: int) -> None:
        """Say in the reason of the end that a step worked only later: a hint at a bench to come."""
        if number > 1:
            self._evidence.notes.append(f"{policy.step} worked at try {number}")

    async def _tear_down_quietly(self) -> None:
        """Free the bench without a word; what is not down in time is found at the next life."""
        if self._leftover is None:
            return
        try:
            await self._calls.free_at_once(Handle(self._leftover.handle))
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a fault of it.
            log.warning("attempt.teardown_failed", error=self._masker(repr(error)), **self._names())
        else:
            self._forget()

    def _forget(self) -> None:
        if self._leftover is not None:
            self._parts.state.forget(self._leftover)
            self._leftover = None

    async def _end(self) -> int:
        """Report how it ended, exactly once."""
        verdict_by = self._task.run.verdict_by
        self._seen = self._evidence.added_to(self._seen, verdict_by=verdict_by)
        outcome = await self._parts.fitness.excused(judge(self._seen))
        number = await self._say_end(outcome)
        self.is_over = True
        self._remove_log()
        self._parts.telemetry.attempt_ended(verdict=outcome.verdict, code=outcome.code)
        log.info("attempt.ended", verdict=outcome.verdict, code=outcome.code, **self._names())
        return number

    async def _say_end(self, outcome: Outcome) -> int:
        return await self._reporting.end(
            outcome,
            plain(self._masker(outcome.reason)),
            seen=self._seen,
            evidence=self._evidence,
            teardown_error=self._teardown_error,
        )

    async def _limited(
        self,
        name: str,
        call: Coroutine[Any, Any, T],
        limit_s: float,
        cut: asyncio.Event | None = None,
    ) -> T:
        """Await what is no call of the adapter."""
        return await limited(
            call,
            name=name,
            limit_s=limit_s,
            cancel_s=self._parts.settings.steps.cancel_s,
            abandon_s=self._parts.settings.abandon_s,
            strays=self._parts.strays,
            cut=cut,
        )

    def _has_log(self) -> bool:
        return self._path.exists()

    def _remove_log(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        traceparent = current_traceparent(self._meta.traceparent)
        now = self._parts.clock.now()
        return dict(environment(self._task, started_at=now, traceparent=traceparent))

    def _names(self) -> dict[str, str | int]:
        return {
            "execution_id": self.ref.execution_id,
            "attempt": self.ref.attempt,
            "bench": self.bench,
            "fence": self.fence,
        }
