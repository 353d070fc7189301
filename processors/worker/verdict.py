"""How an attempt ended, from what was seen of it. A pure function; never blames the wrong side.

The rules, in order:
- what cut the run (cancel, timeout, drain) is the verdict: the exit that follows a kill says
  nothing about the tests;
- a command that cannot be started is the tests' fault, and another bench would not help;
- a fault of provision or run is an error if it is the lab's, and a failure if it is the asker's or
  the test's own: no other bench would change that;
- an exit code other than 0, or a signal that was not ours, is the tests', whatever was collected;
- after exit code 0, failing cases are the tests' failure, and a collection that failed is the
  lab's error: without it nobody knows that the cases passed. If it failed by what the test did (it
  removed what was to be collected), the exit code stands and the reason says so;
- a JUnit file that cannot be read changes nothing: the exit code stands and the reason says so.
"""

from dataclasses import dataclass, replace
from typing import Literal

from events.codes import LAB, Whose
from events.shared import Totals

Verdict = Literal["passed", "failed", "error", "timed_out", "cancelled"]
REASON_CHARS_MAX = 2_000
NO_CASES = Totals(passed=0, failed=0, errors=0, skipped=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Why an attempt was ended early, by us."""

    verdict: Verdict
    code: str
    reason: str
    is_retriable: bool = False
    fault: Whose = ""


def left(reason: str) -> Cut:
    """Return the cut of an attempt whose worker leaves before it ended."""
    return Cut(
        verdict="error", code="worker_draining", reason=reason, is_retriable=True, fault="worker"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A step that broke, and by whose fault."""

    step: str
    code: str
    reason: str
    is_retriable: bool
    whose: Whose = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was seen of an attempt."""

    exit_code: int | None = None
    signal: int | None = None
    cut: Cut | None = None
    cannot_start: str = ""
    fault: Fault | None = None
    """Of provision or run."""
    collect_fault: Fault | None = None
    totals: Totals = NO_CASES
    notes: tuple[str, ...] = ()
    """What else people should know, such as a JUnit file that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended."""

    verdict: Verdict
    code: str
    reason: str
    exit_code: int | None = None
    signal: int | None = None
    is_retriable: bool = False
    fault: Whose = ""


def judge(seen: Seen) -> Outcome:
    """Return how the attempt ended."""
    outcome = _early(seen) or _by_exit(seen)
    notes = seen.notes
    if seen.collect_fault is not None and outcome.code != seen.collect_fault.code:
        notes = (*notes, seen.collect_fault.reason)
    return replace(outcome, reason="; ".join((outcome.reason, *notes))[:REASON_CHARS_MAX])


def _early(seen: Seen) -> Outcome | None:
    """Return the outcome of an attempt whose command did not end by itself; None if it did."""
    if seen.cut is not None:
        cut = seen.cut
        return Outcome(
            verdict=cut.verdict,
            code=cut.code,
            reason=cut.reason,
            signal=seen.signal,
            is_retriable=cut.is_retriable,
            fault=cut.fault,
        )
    if seen.cannot_start:
        return _failed("cannot_start", seen.cannot_start)
    if seen.fault is not None:
        return _broken(seen.fault)
    return None


def _by_exit(seen: Seen) -> Outcome:
    if seen.signal is not None:
        reason = f"ended by signal {seen.signal}{_cases(seen.totals)}"
        return replace(_failed("signal", reason), signal=seen.signal)
    if seen.exit_code is None:
        reason = "the adapter gave neither an exit code nor a signal: the end of the run is unknown"
        return _broken(Fault(step="run", code="run_failed", reason=reason, is_retriable=True))
    if seen.exit_code != 0:
        reason = f"exit code {seen.exit_code}{_cases(seen.totals)}"
        return replace(_failed("exit_code", reason), exit_code=seen.exit_code)
    if seen.totals.failed or seen.totals.errors:
        reason = f"exit code 0{_cases(seen.totals)}"
        return replace(_failed("cases_failed", reason), exit_code=0)
    if seen.collect_fault is not None and seen.collect_fault.whose != "test":
        return replace(_broken(seen.collect_fault), exit_code=0)
    return Outcome(
        verdict="passed", code="passed", reason=f"exit code 0{_cases(seen.totals)}", exit_code=0
    )


def _failed(code: str, reason: str) -> Outcome:
    return Outcome(verdict="failed", code=code, reason=reason, fault="test")


def _broken(fault: Fault) -> Outcome:
    """Return the end that a fault is: an error only if the fault is the lab's."""
    is_the_labs = fault.whose in LAB
    return Outcome(
        verdict="error" if is_the_labs else "failed",
        code=fault.code,
        reason=fault.reason,
        is_retriable=fault.is_retriable and is_the_labs,
        fault=fault.whose,
    )


def _cases(totals: Totals) -> str:
    count = totals.passed + totals.failed + totals.errors + totals.skipped
    if not count:
        return ""
    bad = totals.failed + totals.errors
    return f"; {bad} of {count} cases failed" if bad else f"; {count} cases, none failed"
