"""Power cuts under a lab of `teo up`, a short run and its control. `make power` cuts more often."""

import asyncio
import secrets
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.power.disk import NoDisk
from tests.power.lab import Plan, lost_commands, run

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(500)]

AT_ONCE, AFTER_S = 0.0, 5.0
T = TypeVar("T")


def cut_or_skip(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except NoDisk as reason:
        pytest.skip(f"no disk whose power can be cut: {reason}")


def test_nothing_acknowledged_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"SEED={seed}")
    plan = Plan(folder=tmp_path, seed=seed, cuts_s=[AT_ONCE, AFTER_S])
    report = cut_or_skip(run(plan, print))
    print(report.text())
    assert report.judged is not None
    assert report.judged.drives, "tests really drove benches"
    assert report.judged.commands, "commands were really acknowledged"


def test_control_in_memory_what_was_acknowledged_is_lost(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path, seed=1, cuts_s=[AFTER_S], durability="memory")
    lost = cut_or_skip(lost_commands(plan))
    assert lost, "a cut that takes nothing proves nothing"
