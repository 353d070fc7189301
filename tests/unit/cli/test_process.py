"""The frame of a role: it ends with its parent."""

import asyncio
import os

import pytest

from cli.process import PARENT_FD, _until_stopped


def test_the_end_of_the_parent_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop would be told of it again and again, for as long as the role takes to drain."""
    ours, parents = os.pipe()
    monkeypatch.setenv(PARENT_FD, str(ours))
    is_still_heard: list[bool] = []

    async def role(stop: asyncio.Event) -> None:
        assert not stop.is_set()
        os.close(parents)
        await stop.wait()
        is_still_heard.append(asyncio.get_running_loop().remove_reader(ours))

    try:
        asyncio.run(_until_stopped("role", role))
    finally:
        os.close(ours)
    assert is_still_heard == [False]
