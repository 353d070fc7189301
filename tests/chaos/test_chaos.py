"""A short chaos run. `make chaos MINUTES=…` does the same for longer."""

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.lab import Plan, run

MINUTES = float(os.environ.get("TEO_CHAOS_MINUTES", "0.5"))


@pytest.mark.broker
@pytest.mark.kill
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_nothing_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("TEO_CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"SEED={seed}")
    report = asyncio.run(run(Plan(folder=tmp_path, seed=seed, minutes=MINUTES), print))
    print(report.text())
    assert report.judged is not None
    assert report.judged.drives, "tests really drove benches"
    assert report.faults, "something was broken"
