"""Fixtures that several of these files share."""

from pathlib import Path

import pytest

from tests.integration.local_bench import Local


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """Runs attempts on the local adapter."""
    return Local(tmp_path)
