"""What ends how: the whole table, and that no side is blamed for the other."""

from typing import Any

import pytest

from events.shared import Totals
from processors.worker.faults import fault_of
from processors.worker.state_dir import StateUnreadable
from processors.worker.verdict import REASON_CHARS_MAX, Cut, Fault, Seen, judge

GOOD = Totals(passed=3, failed=0, errors=0, skipped=1)
BAD = Totals(passed=3, failed=1, errors=0, skipped=0)
BROKEN_CASES = Totals(passed=3, failed=0, errors=2, skipped=0)
CANCEL = Cut(verdict="cancelled", code="user", reason="asked by anna")
TIMEOUT = Cut(verdict="timed_out", code="timeout", reason="no end within 5 s")
DRAIN = Cut(verdict="error", code="worker_draining", reason="left", is_retriable=True)
PROVISION = Fault(step="provision", code="provision_failed", reason="no power", is_retriable=True)
COLLECT = Fault(step="collect", code="collect_failed", reason="no way back", is_retriable=True)
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
