"""Worlds in which one thing alone goes wrong: what else breaks in a seed is at peace."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim import test_simulation
from tests.sim.memory_cluster import Faults

STRIKERS = ("nemesis", "double_lives", "clocks", "damage_snapshots", "lose_inputs")
"""What `live` lets strike, each under its name there."""


async def peace(*_: object, **__: object) -> None:
    """Break nothing."""


def strike_only(monkeypatch: pytest.MonkeyPatch, **strikers: Callable[..., Any]) -> None:
    """Let only these strike, by their names in `STRIKERS`, on a cluster that makes no faults."""
    for name in STRIKERS:
        monkeypatch.setattr(test_simulation, name, strikers.pop(name, peace))
    assert not strikers, f"unknown to the simulation: {sorted(strikers)}"
    monkeypatch.setattr(test_simulation, "faults_of", lambda _: Faults())
