"""The example does what the demo says of it: one release fails one case, the other passes all."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import can
import pytest
import yaml
from defusedxml import ElementTree

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/virtual_ecu"
RUN_S_MAX = 60.0
CASES_MIN = 12
REQUEST_ID, ANSWER_ID = 0x7E0, 0x7E8
READ_VIN = bytes.fromhex("0322f190")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one run of the suite ended."""

    code: int
    output: str
    failed: dict[str, str]
    cases: int
    artifacts: Path


def run_suite(folder: Path, out: Path, *, firmware: str, select: str = "") -> Run:
    """Run the suite in `folder` as a bench does, with its evidence under `out`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ECU_", "TEO_"))}
    env |= {
        "ECU_FIRMWARE": firmware,
        "TEO_ARTIFACTS_DIR": str(out / "artifacts"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", select, f"--junitxml={out / 'junit.xml'}"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    cases = list(ElementTree.parse(out / "junit.xml").iter("testcase"))
    return Run(
        code=ended.returncode,
        output=ended.stdout,
        failed={
            case.attrib["name"]: problem.attrib["message"]
            for case in cases
            for problem in [*case.iter("failure"), *case.iter("error")]
        },
        cases=len(cases),
        artifacts=out / "artifacts",
    )


@pytest.fixture(scope="module")
def buggy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The suite against 1.0.0, in the folder itself."""
    return run_suite(EXAMPLE, tmp_path_factory.mktemp("buggy"), firmware="1.0.0")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The suite against 1.1.0, in a copy of the folder, as the benches of its file have it."""
    out = tmp_path_factory.mktemp("fixed")
    copy = out / "copy"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return run_suite(copy, out, firmware="1.1.0")


def test_the_release_with_the_bug_fails_one_case(buggy):
    assert buggy.code == 1, buggy.output
    assert list(buggy.failed) == ["test_battery_voltage[jump-start-from-a-truck]"]
    assert "supply 26.4 V, ECU says 0.8 V" in next(iter(buggy.failed.values()))


def test_the_fixed_release_passes_all_the_same_cases(buggy, fixed):
    assert fixed.code == 0, fixed.output
    assert fixed.failed == {}
    assert fixed.cases == buggy.cases >= CASES_MIN


def test_the_trace_holds_what_was_said_on_the_bus(buggy, fixed):
    for run in (buggy, fixed):
        with can.LogReader(run.artifacts / "can-trace.log") as reader:
            frames = list(reader)
        assert {frame.arbitration_id for frame in frames} == {REQUEST_ID, ANSWER_ID}
        asked = [frame.data for frame in frames if frame.arbitration_id == REQUEST_ID]
        assert any(data.startswith(READ_VIN) for data in asked), "nobody read the VIN"


def test_an_unknown_release_is_named_with_those_there_are(tmp_path):
    run = run_suite(EXAMPLE, tmp_path, firmware="9.9.9", select="vin_is")
    assert run.code == 1, run.output
    assert "no firmware '9.9.9': set ECU_FIRMWARE to one of 1.0.0, 1.1.0" in run.output


def test_the_bench_file_has_one_placeholder_for_this_folder():
    text = (EXAMPLE / "bench.yaml").read_text()
    rendered = yaml.safe_load(text.replace("@HERE@", str(EXAMPLE)))
    assert rendered["pool"] == "lab-a"
    assert len(rendered["benches"]) >= 2
    for bench in rendered["benches"]:
        assert bench["adapter"] == "local"
        assert Path(bench["config"]["copy"]) == EXAMPLE
