"""What these tests share: a disk that is quick."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_power_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing: hours of a worker pass in a moment, and its folder is gone after the test.

    That what has to be is on the disk is shown by `tests/unit/events/test_durable.py` and
    `tests/power`.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)
