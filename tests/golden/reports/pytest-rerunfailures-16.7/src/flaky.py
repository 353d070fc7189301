"""A case that passes when it is run again, and one that never does."""

from pathlib import Path

RUNS = Path("runs")


def test_flaky():
    runs = int(RUNS.read_text()) if RUNS.exists() else 0
    RUNS.write_text(str(runs + 1))
    assert runs == 2


def test_ok():
    pass


def test_never():
    raise AssertionError("never")
