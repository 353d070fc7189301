"""Negative controls: inputs are lost, nobody looks at them, and the judge must object."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from processors.runtime import inputs, owner
from processors.scheduler import core
from processors.scheduler.state import Ledger
from tests.sim import test_simulation
from tests.sim.checkers import Violated, check_journal
from tests.sim.loop import run
from tests.sim.test_simulation import live
from tests.sim.test_snapshot_controls import SEEDS_MAX, objection
from tests.sim.world import World


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_simulation, "SETTLE_S", 60.0)


@pytest.mark.timeout(600)
def test_with_the_offset_alone_believed_acknowledged_commands_are_never_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(inputs._View, "reset", none)
    assert any(
        said in objection(tmp_path)
        for said in ("never ends", "inputs_are_those_decided", "acknowledged_commands_are_decided")
    )


@pytest.mark.timeout(600)
def test_with_inputs_read_from_their_begin_commands_are_decided_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a topic that was shortened for one that was made anew, and knows no repeats."""
    worlds: list[World] = []
    handle = core.handle

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    def forgetful(ledger: Ledger, given: Any) -> Any:
        ledger.known.clear()
        return handle(ledger, given)

    def made(*given: Any, **more: Any) -> World:
        worlds.append(World(*given, **more))
        return worlds[-1]

    monkeypatch.setattr(inputs._View, "_newest_decided", nothing)
    monkeypatch.setattr(owner.core, "handle", forgetful)
    monkeypatch.setattr(test_simulation, "World", made)
    said = []
    for seed in range(SEEDS_MAX):
        with contextlib.suppress(Exception):
            run(live(seed, tmp_path / str(seed)))
        try:
            for number in range(worlds[-1].cluster.partitions):
                check_journal(worlds[-1].journal(number))
        except Violated as violated:
            said.append(str(violated))
            if "decided twice" in said[-1]:
                return
    pytest.fail(f"no checker objects; they said {said}")
