"""What one attempt says of itself, put into the outbox. Never decides what is true."""

from events.reports import AttemptEnded, Report, ResultsCollected, StepStarted
from events.shared import AttemptRef, TaskMeta
from events.tasks import RunAttempt
from processors.worker.evidence import Evidence, parts_of
from processors.worker.outbox import Outbox
from processors.worker.settings import EvidenceLimits
from processors.worker.telemetry import current_traceparent
from processors.worker.verdict import NO_CASES, Outcome, Seen


def not_begun(task: RunAttempt, code: str, reason: str) -> AttemptEnded:
    """Return the end of an attempt that this worker did not begin: the bench was not touched."""
    return AttemptEnded(
        execution_id=task.execution_id,
        attempt=task.attempt,
        fence=task.fence,
        verdict="error",
        code=code,
        reason=reason,
        totals=NO_CASES,
        artifacts=(),
        is_retriable=True,
        teardown_error="",
        fault="worker",
    )


class Reporting:
    """The reports of one attempt, each with its fence and in its trace."""

    def __init__(self, ref: AttemptRef, *, fence: int, meta: TaskMeta, outbox: Outbox) -> None:
        self._ref = ref
        self._fence = fence
        self._meta = meta
        self._outbox = outbox

    async def step(self, step: str, handle: str | None = None) -> int:
        """Say that a step begins; return the report's number in the outbox."""
        return await self._say(
            StepStarted(
                execution_id=self._ref.execution_id,
                attempt=self._ref.attempt,
                fence=self._fence,
                step=step,
                handle=handle,
            )
        )

    async def cases(self, evidence: Evidence, limits: EvidenceLimits) -> None:
        """Say the cases that are kept, in parts a record can carry."""
        first_case = 0
        for part in parts_of(evidence.cases.kept, limits):
            await self._say(
                ResultsCollected(
                    execution_id=self._ref.execution_id,
                    attempt=self._ref.attempt,
                    fence=self._fence,
                    first_case=first_case,
                    cases=part,
                )
            )
            first_case += len(part)

    async def end(
        self, outcome: Outcome, reason: str, *, seen: Seen, evidence: Evidence, teardown_error: str
    ) -> int:
        """Say how it ended; return the report's number in the outbox."""
        return await self._say(
            AttemptEnded(
                execution_id=self._ref.execution_id,
                attempt=self._ref.attempt,
                fence=self._fence,
                verdict=outcome.verdict,
                code=outcome.code,
                reason=reason,
                exit_code=outcome.exit_code,
                signal=outcome.signal,
                totals=seen.totals,
                artifacts=tuple(evidence.artifacts),
                is_retriable=outcome.is_retriable,
                teardown_error=teardown_error,
                fault=outcome.fault,
            )
        )

    async def _say(self, report: Report) -> int:
        return await self._outbox.put(
            report,
            correlation_id=self._meta.correlation_id,
            traceparent=current_traceparent(self._meta.traceparent),
        )
