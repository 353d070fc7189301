"""Fixtures that several of these files share."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.folders import remove_tree
from tests.integration.local_bench import Local
from tests.integration.small_lab import Scene, small_lab


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """Runs attempts on the local adapter. What they left goes, also where the adapter failed.

    pytest's own removal of old folders recurses: a deep tree would break later sessions.
    """
    made = Local(tmp_path)
    yield made
    for root in made.adapter._removers:
        remove_tree(root)


@pytest.fixture
def play(kafka: str, topic_prefix: str, tmp_path: Path) -> Callable[[Scene], None]:
    """Plays a scene on a small lab of its own."""

    def run(scene: Scene) -> None:
        async def whole() -> None:
            async with small_lab(kafka, topic_prefix, tmp_path) as lab:
                await scene(lab)

        asyncio.run(whole())

    return run
