"""The adapters that come with the product keep the contract third parties are held to."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.conformance import (
    DEPTH,
    ODD_NAMES,
    TALK_LINES,
    AdapterConformance,
    Rig,
    Scenario,
)
from adapters.contract import Bench, Limits
from adapters.folders import remove_tree
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

REPLACE_WORKSPACE = """
import os, pathlib
here = pathlib.Path.cwd()
secret = here.parent / "of-the-lab"
(secret / "out").mkdir(parents=True)
(secret / "out" / "key.bin").write_bytes(b"0123456789")
(secret / "key.xml").write_text("<testsuite/>")
here.rename(here.parent / "moved")
here.symlink_to(secret)
"""
LEAVE_DEEP_TREE = f"""
import os
for _ in range({DEPTH}):
    os.mkdir("d")
    os.chdir("d")
open("leaf.bin", "w").write("leaf")
"""
LEAVE_ODD_NAMES = f"""
import os
os.mkdir("out")
for name in {ODD_NAMES!r}:
    open(os.path.join("out", name), "w").write("odd")
"""

LOCAL: dict[Scenario, tuple[str, ...]] = {
    "passes": ("true",),
    "fails": ("sh", "-c", "exit 3"),
    "talks": (sys.executable, "-c", f"for i in range({TALK_LINES}): print('line', i)"),
    "hangs": ("sh", "-c", "echo started; exec sleep 600"),
    "cannot_start": ("no-such-program-here",),
    "leaves_files": (sys.executable, "-c", LEAVE_FILES),
    "removes_workspace": ("sh", "-c", 'rm -rf "$PWD"'),
    "replaces_workspace": (sys.executable, "-c", REPLACE_WORKSPACE),
    "leaves_deep_tree": (sys.executable, "-c", LEAVE_DEEP_TREE),
    "leaves_odd_names": (sys.executable, "-c", LEAVE_ODD_NAMES),
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
    "leaves_deep_tree": {"artifacts": {"d/" * DEPTH + "leaf.bin": 4}},
    "leaves_odd_names": {"artifacts": {f"out/{name}": 3 for name in ODD_NAMES}},
}


@pytest.fixture(autouse=True)
def removed(tmp_path: Path) -> Iterator[None]:
    """Remove what is left of a deep tree: pytest's own removal of old folders recurses."""
    yield
    remove_tree(tmp_path / "local")


class TestLocalAdapter(AdapterConformance):
    def rig(self, tmp_path: Path) -> Rig:
        return Rig(
            make=lambda: LocalAdapter(tmp_path / "local"),
            scenario=lambda scenario: (Bench(name="bench-1"), LOCAL[scenario]),
            is_kept=lambda handle: place_of(handle).folder.exists(),
            over_limit=(Bench(name="bench-1"), FILL, Limits(disk_max_bytes=1 << 20)),
        )


def _mocked(scenario: Scenario) -> tuple[Bench, tuple[str, ...]]:
    if scenario not in MOCK:
        raise NotImplementedError("no test reaches the files of a mock: it has none")
    return Bench(name="bench-1", config=MOCK[scenario]), ("test",)


class TestMockAdapter(AdapterConformance):
    def rig(self, tmp_path: Path) -> Rig:
        return Rig(
            make=lambda: MockAdapter(tmp_path / "mock"),
            scenario=_mocked,
            over_limit=(Bench(name="bench-1", config={"limit_exceeded": "x"}), ("test",), Limits()),
        )
