"""The adapters that come with the product keep the contract third parties are held to."""

import sys
from pathlib import Path

from adapters.conformance import TALK_LINES, AdapterConformance, Rig, Scenario
from adapters.contract import Bench, Limits
from adapters.local import LocalAdapter
from adapters.local.place import place_of
from adapters.mock import MockAdapter

LEAVE_FILES = """
import pathlib
pathlib.Path("out").mkdir()
pathlib.Path("out/a.bin").write_bytes(b"0123456789")
pathlib.Path("report.xml").write_text(
    "<testsuite name='s'><testcase name='a'/><testcase name='b'><failure/></testcase></testsuite>"
)
raise SystemExit(1)
"""

LOCAL: dict[Scenario, tuple[str, ...]] = {
    "passes": ("true",),
    "fails": ("sh", "-c", "exit 3"),
    "talks": (sys.executable, "-c", f"for i in range({TALK_LINES}): print('line', i)"),
    "hangs": ("sh", "-c", "echo started; exec sleep 600"),
    "cannot_start": ("no-such-program-here",),
    "leaves_files": (sys.executable, "-c", LEAVE_FILES),
}

FILL = (sys.executable, "-c", "open('big', 'wb').write(bytes(3 << 20))")
MOCK: dict[Scenario, dict[str, object]] = {
    "passes": {},
    "fails": {"exit_codes": [3]},
    "talks": {"lines": TALK_LINES},
    "hangs": {"lines": 1, "run": {"hang": True}},
    "cannot_start": {"cannot_start": "no such program"},
    "leaves_files": {
        "exit_codes": [1],
        "artifacts": {"out/a.bin": 10},
        "junit": {"passed": 1, "failed": 1},
    },
}


class TestLocalAdapter(AdapterConformance):
    def rig(self, tmp_path: Path) -> Rig:
        return Rig(
            make=lambda: LocalAdapter(tmp_path / "local"),
            scenario=lambda scenario: (Bench(name="bench-1"), LOCAL[scenario]),
            is_kept=lambda handle: place_of(handle).folder.exists(),
            over_limit=(Bench(name="bench-1"), FILL, Limits(disk_max_bytes=1 << 20)),
        )


class TestMockAdapter(AdapterConformance):
    def rig(self, tmp_path: Path) -> Rig:
        return Rig(
            make=lambda: MockAdapter(tmp_path / "mock"),
            scenario=lambda scenario: (Bench(name="bench-1", config=MOCK[scenario]), ("test",)),
            over_limit=(Bench(name="bench-1", config={"limit_exceeded": "x"}), ("test",), Limits()),
        )
