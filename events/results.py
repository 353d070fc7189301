"""The public contract for CI and analytics: one record for each finished execution.

Mirrors `schemas/results/`; the meaning and unit of each field is written there.
"""

from dataclasses import dataclass
from datetime import datetime

from events.shared import Artifact, Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How an execution ended."""

    result_id: str
    execution_id: str
    pool: str
    owner: str
    verdict: str
    code: str
    reason: str
    exit_code: int | None = None
    attempts: int
    bench: str
    totals: Totals
    artifacts: tuple[Artifact, ...]
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime
    journal_partition: int
    journal_seq: int
    correlation_id: str
    traceparent: str
    is_flaky: bool = False
    fault: str = ""
