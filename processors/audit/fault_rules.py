"""The rules of whose fault an end is: nobody is blamed, or pays, for what another one did."""

from collections.abc import Iterator

from events import facts
from events.codes import LAB, fault_told
from events.message import EventMessage
from processors.audit.rule import BenchKey, Rule
from processors.watchers.bench_health.rule import ACTOR


class InfrastructureIsNotATestFailure(Rule):
    """An error is the lab's, a failure never is, and is retried only if asked."""

    name = "infrastructure_is_not_a_test_failure"

    def __init__(self) -> None:
        self._last: dict[str, facts.AttemptFinished] = {}
        """Last attempt of each open execution."""
        self._asked: dict[str, int] = {}

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        match message.body:
            case facts.ExecutionSubmitted() as submitted:
                self._asked[submitted.execution_id] = submitted.retries_on_failure
            case facts.AttemptFinished() as finished:
                yield from _in_keeping(finished.verdict, finished.code, finished.fault)
                self._last[finished.execution_id] = finished
            case facts.ExecutionRequeued() as requeued:
                yield from self._requeued(requeued.execution_id)
            case facts.ExecutionFinished() as ended:
                yield from _in_keeping(ended.verdict, ended.code, ended.fault)
                last = self._last.pop(ended.execution_id, None)
                self._asked.pop(ended.execution_id, None)
                yield from _as_its_last(ended, last)

    def _requeued(self, name: str) -> Iterator[str]:
        last = self._last.get(name)
        if last is not None and last.fault == "asker":
            yield "what the asker did wrong is tried again"
        elif last is not None and last.verdict == "failed":
            self._asked[name] = self._asked.get(name, 0) - 1
            if self._asked[name] < 0:
                yield "retried unasked"
        elif last is None or last.verdict != "error":
            yield "only errors of the lab are retried"


def _in_keeping(verdict: str, code: str, fault: str) -> Iterator[str]:
    """Yield what is wrong with a verdict and whose fault it is said to be."""
    is_given_up = code in ("worker_lost", "attempt_overdue")
    if verdict != "error" and (is_given_up or fault in LAB):
        yield f"an error of the lab ({fault or code}) is told as {verdict}"
    if verdict == "error" and fault_told(verdict, code, fault) not in LAB:
        yield f"an error is told as the fault of {fault}"
    if verdict in ("passed", "cancelled") and fault:
        yield f"{verdict}, and yet the fault of {fault}"


def _as_its_last(
    ended: facts.ExecutionFinished, last: facts.AttemptFinished | None
) -> Iterator[str]:
    if ended.verdict == "failed" and (last is None or last.verdict != "failed"):
        yield "a failure comes from an attempt"
    if last is not None and ended.verdict == last.verdict and ended.fault != last.fault:
        yield f"its last attempt was the fault of {last.fault!r}, it says {ended.fault!r}"


class OnlyFaultsOfBenchesCount(Rule):
    """The watcher takes no bench out that had no fault of its own."""

    name = "only_faults_of_benches_count"

    def __init__(self) -> None:
        self._accused: set[BenchKey] = set()
        """Benches that had a fault. A question may be old when it is decided: so for good."""

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        pool = message.meta.pool
        match message.body:
            case facts.AttemptFinished(verdict="error") as finished:
                if fault_told("error", finished.code, finished.fault) == "bench":
                    self._accused.add((pool, finished.bench))
            case facts.BenchQuarantined() as taken if message.meta.actor == ACTOR:
                if (pool, taken.bench) not in self._accused:
                    yield f"{taken.bench} is taken out for what was not its fault"
