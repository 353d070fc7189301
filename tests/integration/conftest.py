"""Fixtures that several of these files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.folders import remove_tree
from tests.integration.local_bench import Local


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """Runs attempts on the local adapter. What they left goes, also where the adapter failed.

    pytest's own removal of old folders recurses: a deep tree would break later sessions.
    """
    made = Local(tmp_path)
    yield made
    for root in made.adapter._removers:
        remove_tree(root)
