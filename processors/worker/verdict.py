"""How an attempt ended, from what was seen of it. A pure function; never blames the wrong side.

The rules, in order:
- what cut the run (cancel, timeout, limit, drain) is the verdict: the exit that follows a kill says
  nothing about the tests;
- a command that cannot be started is the tests' fault, and another bench would not help;
- a fault of provision or run is an error if it is the lab's, and a failure if it is the asker's or
  the test's own: no other bench would change that;
- a signal that was not ours is the tests' failure, whatever was collected;
- exit code and report decide as the run asked (`verdict_by`). `both`: it passed if both say so;
  `exit-code`: the report is only shown; `report`: the exit code counts only if the report has no
  cases. Where they do not agree, the reason says which decided;
- a report says that all passed only if there is one and all of it can be read. One that was asked
  for and is not there, or is broken, is the tests' failure: they write it, and another bench would
  not help;
- a collection that failed is the lab's error, unless the exit code or a case failed already:
  without it nobody knows that the cases passed. If it failed by what the test did (it removed what
  was to be collected), exit code and report decide, and the reason says so.
"""

from dataclasses import dataclass, replace
from typing import Literal

from events.codes import LAB, Whose
from events.shared import Totals

Verdict = Literal["passed", "failed", "error", "timed_out", "cancelled"]
ReportFault = Literal["", "report_missing", "report_unreadable"]
REASON_CHARS_MAX = 2_000
_WHY_NOT = {
    "report_missing": "no report was found, and without one nobody knows that all passed",
    "report_unreadable": "without the whole report nobody knows that all passed",
}
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
    flaky: int = 0
    risky: int = 0
    report_fault: ReportFault = ""
    verdict_by: str = "both"
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


BROKEN = Outcome(
    verdict="error",
    code="worker_bug",
    reason="the worker could not finish this attempt; its log says why",
    is_retriable=True,
    fault="worker",
)


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
        reason = f"ended by signal {seen.signal}{_cases(seen)}"
        return replace(_failed("signal", reason), signal=seen.signal)
    if seen.exit_code is None:
        reason = "the adapter gave neither an exit code nor a signal: the end of the run is unknown"
        return _broken(Fault(step="run", code="run_failed", reason=reason, is_retriable=True))
    return _by_exit_code_and_report(seen)


def _by_exit_code_and_report(seen: Seen) -> Outcome:
    """Return the outcome of a command that ended by itself, as `verdict_by` has it."""
    has_bad = bool(seen.totals.failed or seen.totals.errors)
    has_cases = seen.totals != NO_CASES
    not_collected = _not_collected(seen)
    is_told = has_cases or seen.report_fault or not_collected
    exit_decides = seen.verdict_by != "report" or not is_told
    report_decides = seen.verdict_by != "exit-code"
    code = ""
    if exit_decides and seen.exit_code != 0:
        code = "exit_code"
    elif report_decides and has_bad:
        code = "cases_failed"
    elif not_collected is not None:
        return replace(_broken(not_collected), exit_code=seen.exit_code)
    elif report_decides and seen.report_fault:
        code = seen.report_fault
    reason = f"exit code {seen.exit_code}{_cases(seen)}"
    if code in _WHY_NOT:
        reason = f"{reason}; {_WHY_NOT[code]}"
    elif has_cases and has_bad != (seen.exit_code != 0):
        by_exit = code == "exit_code" or not report_decides
        reason = f"{reason}; the {'exit code' if by_exit else 'report'} decided"
    if code:
        return replace(_failed(code, reason), exit_code=seen.exit_code)
    return Outcome(verdict="passed", code="passed", reason=reason, exit_code=seen.exit_code)


def _not_collected(seen: Seen) -> Fault | None:
    """Return why it is not known what the test left, unless the test itself did that."""
    fault = seen.collect_fault
    return None if fault is None or fault.whose == "test" else fault


def why_not_started(error: Exception) -> str:
    """Return an adapter's words for it, led by ours unless it says the same itself."""
    text = str(error)
    return text if text.startswith("cannot start ") else f"cannot start: {text}"


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


def _cases(seen: Seen) -> str:
    totals = seen.totals
    count = totals.passed + totals.failed + totals.errors + totals.skipped
    if not count:
        return ""
    bad = totals.failed + totals.errors
    said = f"; {bad} of {count} cases failed" if bad else f"; {count} cases, none failed"
    flaky = f"; {seen.flaky} flaky: failed, was run again and passed" if seen.flaky else ""
    risky = f"; {seen.risky} risky, as PHPUnit calls it" if seen.risky else ""
    return said + flaky + risky
