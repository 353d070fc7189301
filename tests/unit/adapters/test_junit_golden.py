"""The reports that the tools themselves wrote are read as `tests/golden/reports` says.

`UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/adapters/test_junit_golden.py` renews what is expected;
read the difference: it is what the product will tell of such a run.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adapters.junit import Report, read_report

FOLDER = Path(__file__).parents[2] / "golden" / "reports"
REPORTS = sorted(FOLDER.glob("*/*.xml"))
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
LINES_SHOWN = 2


def plain(report: Report) -> dict[str, Any]:
    """Return the report as it stands in a golden file: of long texts the first lines, no zeros."""
    cases = []
    for case in report.cases:
        found = {name: value for name, value in asdict(case).items() if value}
        for name in ("message", "details"):
            if lines := str(found.get(name, "")).splitlines():
                found[name] = [*lines[:LINES_SHOWN], f"({len(lines)} lines)"]
        cases.append(found)
    return {"totals": report.totals, "flaky": report.flaky, "risky": report.risky, "cases": cases}


def test_every_tool_is_there() -> None:
    tools = {path.parent.name.rpartition("-")[0] for path in REPORTS}
    assert tools >= {
        *("pytest", "pytest-rerunfailures", "gtest", "ctest", "surefire", "gradle", "gotestsum"),
        *("nextest", "mocha", "jest", "robot", "phpunit", "catch2", "playwright", "tap"),
    }


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_report_of_a_tool(path: Path) -> None:
    found = plain(read_report(path))
    golden = path.with_suffix(".json")
    if UPDATE:
        text = json.dumps(found, indent=1, ensure_ascii=False)
        golden.write_text(f"{text}\n", encoding="utf-8")
    assert found == json.loads(golden.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("report", "flaky"),
    [
        ("gotestsum-1.13.0/junit.xml", ["TestFlaky"]),
        ("nextest-0.9.148/junit.xml", ["bus::flaky"]),
        ("pytest-rerunfailures-16.7/junit.xml", ["test_flaky"]),
        ("surefire-3.5.4/bus.xml", ["flaky"]),
        ("playwright-1.65.1/retries.xml", ["bus \u203a flaky"]),
    ],
)
def test_a_case_that_was_run_again_and_passed_is_flaky(report: str, flaky: list[str]) -> None:
    cases = read_report(FOLDER / report).cases
    assert [case.name for case in cases if case.is_flaky] == flaky
    assert len({(case.suite, case.classname, case.name) for case in cases}) == len(cases)
    assert any(case.status in ("failed", "error") for case in cases), "others failed for good"
