"""What ends how: the whole table, and that no side is blamed for the other."""

from typing import Any

import pytest

from adapters.contract import Attempt, AttemptId, Bench, CannotStart, Exit
from events.shared import VERDICTS_BY, Totals
from processors.worker.faults import fault_of, with_exit, with_fault
from processors.worker.state_dir import StateUnreadable
from processors.worker.verdict import (
    NO_CASES,
    REASON_CHARS_MAX,
    Cut,
    Fault,
    ReportFault,
    Seen,
    judge,
    why_not_started,
)

GOOD = Totals(passed=3, failed=0, errors=0, skipped=1)
BAD = Totals(passed=3, failed=1, errors=0, skipped=0)
BROKEN_CASES = Totals(passed=3, failed=0, errors=2, skipped=0)
CANCEL = Cut(verdict="cancelled", code="user", reason="asked by anna")
TIMEOUT = Cut(verdict="timed_out", code="timeout", reason="no end within 5 s")
DRAIN = Cut(verdict="error", code="worker_draining", reason="left", is_retriable=True)
PROVISION = Fault(step="provision", code="provision_failed", reason="no power", is_retriable=True)
COLLECT = Fault(step="collect", code="collect_failed", reason="no way back", is_retriable=True)
REMOVED = Fault(
    step="collect", code="workspace_removed", reason="it is gone", is_retriable=False, whose="test"
)
FINAL = Fault(step="run", code="run_failed", reason="bad config", is_retriable=False)


@pytest.mark.parametrize(
    ("seen", "verdict", "code", "is_retriable"),
    [
        (Seen(exit_code=0), "passed", "passed", False),
        (Seen(exit_code=0, totals=GOOD), "passed", "passed", False),
        (Seen(exit_code=1), "failed", "exit_code", False),
        (Seen(exit_code=1, totals=GOOD), "failed", "exit_code", False),
        (Seen(exit_code=1, totals=BAD), "failed", "exit_code", False),
        (Seen(signal=11), "failed", "signal", False),
        (Seen(exit_code=0, totals=BAD), "failed", "cases_failed", False),
        (Seen(exit_code=0, totals=BROKEN_CASES), "failed", "cases_failed", False),
        (Seen(cannot_start="not found"), "failed", "cannot_start", False),
        (Seen(fault=PROVISION), "error", "provision_failed", True),
        (Seen(fault=FINAL), "error", "run_failed", False),
        (Seen(), "error", "run_failed", True),
        (Seen(exit_code=0, collect_fault=COLLECT), "error", "collect_failed", True),
        (Seen(exit_code=1, collect_fault=COLLECT), "failed", "exit_code", False),
        (Seen(exit_code=0, totals=BAD, collect_fault=COLLECT), "failed", "cases_failed", False),
        (Seen(cut=CANCEL), "cancelled", "user", False),
        (Seen(cut=CANCEL, signal=9), "cancelled", "user", False),
        (Seen(cut=TIMEOUT, signal=9, totals=BAD), "timed_out", "timeout", False),
        (Seen(cut=TIMEOUT, collect_fault=COLLECT), "timed_out", "timeout", False),
        (Seen(cut=DRAIN), "error", "worker_draining", True),
        (Seen(cut=CANCEL, fault=PROVISION), "cancelled", "user", False),
    ],
)
def test_judge(seen: Seen, verdict: str, code: str, is_retriable: bool) -> None:
    outcome = judge(seen)
    assert (outcome.verdict, outcome.code, outcome.is_retriable) == (verdict, code, is_retriable)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(exit_code=3), {"exit_code": 3, "signal": None}),
        (Seen(signal=11), {"exit_code": None, "signal": 11}),
        (Seen(cut=TIMEOUT, exit_code=143, signal=15), {"exit_code": None, "signal": 15}),
    ],
)
def test_only_what_ended_by_itself_has_an_exit_code(seen: Seen, expected: dict[str, Any]) -> None:
    outcome = judge(seen)
    assert {"exit_code": outcome.exit_code, "signal": outcome.signal} == expected


def seen_of(
    verdict_by: str, exit_code: int, totals: Totals, fault: ReportFault = "", **more: Any
) -> Seen:
    return Seen(
        verdict_by=verdict_by, exit_code=exit_code, totals=totals, report_fault=fault, **more
    )


NO_REPORT = "; no report was found, and without one nobody knows that all passed"
CUT_OFF = "; without the whole report nobody knows that all passed"
BY_EXIT = "; the exit code decided"
BY_REPORT = "; the report decided"


@pytest.mark.parametrize(
    ("seen", "code", "reason"),
    [
        (seen_of("both", 0, GOOD), "passed", "exit code 0; 4 cases, none failed"),
        (seen_of("both", 1, BAD), "exit_code", "exit code 1; 1 of 4 cases failed"),
        (seen_of("both", 1, GOOD), "exit_code", "exit code 1; 4 cases, none failed" + BY_EXIT),
        (seen_of("both", 0, BAD), "cases_failed", "exit code 0; 1 of 4 cases failed" + BY_REPORT),
        (seen_of("both", 0, NO_CASES), "passed", "exit code 0"),
        (seen_of("both", 0, NO_CASES, "report_missing"), "report_missing",
         "exit code 0" + NO_REPORT),
        (seen_of("both", 1, NO_CASES, "report_missing"), "exit_code", "exit code 1"),
        (seen_of("both", 0, NO_CASES, "report_unreadable"), "report_unreadable",
         "exit code 0" + CUT_OFF),
        (seen_of("both", 0, GOOD, "report_unreadable"), "report_unreadable",
         "exit code 0; 4 cases, none failed" + CUT_OFF),
        (seen_of("both", 0, BAD, "report_unreadable"), "cases_failed",
         "exit code 0; 1 of 4 cases failed" + BY_REPORT),
        (seen_of("both", 1, GOOD, "report_unreadable"), "exit_code",
         "exit code 1; 4 cases, none failed" + BY_EXIT),
        (seen_of("exit-code", 0, BAD), "passed", "exit code 0; 1 of 4 cases failed" + BY_EXIT),
        (seen_of("exit-code", 1, GOOD), "exit_code", "exit code 1; 4 cases, none failed" + BY_EXIT),
        (seen_of("exit-code", 0, NO_CASES, "report_missing"), "passed", "exit code 0"),
        (seen_of("exit-code", 0, GOOD, "report_unreadable"), "passed",
         "exit code 0; 4 cases, none failed"),
        (seen_of("exit-code", 0, BAD, collect_fault=COLLECT), "collect_failed", "no way back"),
        (seen_of("report", 0, GOOD), "passed", "exit code 0; 4 cases, none failed"),
        (seen_of("report", 3, GOOD), "passed", "exit code 3; 4 cases, none failed" + BY_REPORT),
        (seen_of("report", 0, BAD), "cases_failed", "exit code 0; 1 of 4 cases failed" + BY_REPORT),
        (seen_of("report", 3, BAD), "cases_failed", "exit code 3; 1 of 4 cases failed"),
        (seen_of("report", 0, NO_CASES), "passed", "exit code 0"),
        (seen_of("report", 3, NO_CASES), "exit_code", "exit code 3"),
        (seen_of("report", 0, NO_CASES, "report_missing"), "report_missing",
         "exit code 0" + NO_REPORT),
        (seen_of("report", 3, GOOD, "report_unreadable"), "report_unreadable",
         "exit code 3; 4 cases, none failed" + CUT_OFF),
        (seen_of("report", 3, NO_CASES, collect_fault=COLLECT), "collect_failed", "no way back"),
        (seen_of("both", 0, NO_CASES, collect_fault=REMOVED), "passed", "exit code 0; it is gone"),
        (seen_of("report", 3, NO_CASES, collect_fault=REMOVED), "exit_code",
         "exit code 3; it is gone"),
        (seen_of("both", 0, NO_CASES, "report_missing", collect_fault=REMOVED), "report_missing",
         "exit code 0" + NO_REPORT + "; it is gone"),
    ],
)  # fmt: skip
def test_exit_code_and_report(seen: Seen, code: str, reason: str) -> None:
    outcome = judge(seen)
    assert (outcome.code, outcome.reason) == (code, reason)
    assert outcome.verdict == {"passed": "passed", "collect_failed": "error"}.get(code, "failed")
    assert outcome.exit_code == seen.exit_code


@pytest.mark.parametrize("verdict_by", VERDICTS_BY)
def test_a_signal_is_no_exit_code(verdict_by: str) -> None:
    assert judge(Seen(signal=11, totals=GOOD, verdict_by=verdict_by)).code == "signal"


@pytest.mark.parametrize("faults", [(COLLECT, REMOVED), (REMOVED, COLLECT)])
def test_what_the_test_did_hides_nothing_that_the_lab_did(faults: tuple[Fault, Fault]) -> None:
    seen = Seen(exit_code=0)
    for fault in faults:
        seen = with_fault(seen, fault)
    outcome = judge(seen)
    assert (outcome.verdict, outcome.code, outcome.fault) == ("error", "collect_failed", "bench")


def test_the_reason_tells_of_flaky_and_risky_cases() -> None:
    reason = judge(Seen(exit_code=0, totals=GOOD, flaky=2, risky=1)).reason
    assert reason == (
        "exit code 0; 4 cases, none failed; 2 flaky: failed, was run again and passed; 1 risky, as "
        "PHPUnit calls it"
    )


def test_the_reason_tells_all_of_it() -> None:
    seen = Seen(exit_code=1, totals=BAD, collect_fault=COLLECT, notes=("r.xml cannot be read",))
    assert judge(seen).reason == (
        "exit code 1; 1 of 4 cases failed; r.xml cannot be read; no way back"
    )
    only = judge(Seen(exit_code=0, collect_fault=COLLECT))
    assert only.reason == "no way back", "said once"
    assert len(judge(Seen(exit_code=0, notes=("x" * 9_999,))).reason) == REASON_CHARS_MAX


def test_a_full_disk_of_the_worker_is_not_held_against_the_bench() -> None:
    fault = fault_of("provision", StateUnreadable("cannot write epoch: no space left"))
    assert (fault.code, fault.whose, fault.is_retriable) == ("state_unusable", "worker", True)


def test_a_test_over_a_limit_has_failed_and_its_reason_names_the_limit() -> None:
    attempt = Attempt(
        id=AttemptId(execution_id="exe-1", number=1, fence=1),
        bench=Bench(name="b"),
        command=("true",),
        timeout_s=1.0,
    )
    detail = "memory_max is 64 MiB, the test took 80 MiB"
    exit_ = Exit(ended="limit_exceeded", signal=9, detail=detail)
    outcome = judge(with_exit(Seen(), exit_, attempt))
    assert (outcome.verdict, outcome.code, outcome.signal) == ("failed", "limit_exceeded", 9)
    assert (outcome.fault, outcome.is_retriable) == ("test", False)
    assert detail in outcome.reason


def test_that_it_cannot_start_is_said_once():
    assert why_not_started(CannotStart("no such file")) == "cannot start: no such file"
    assert why_not_started(CannotStart("cannot start 'x': gone")) == "cannot start 'x': gone"
