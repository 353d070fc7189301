"""What a teardown removes, and what is gone already."""

from pathlib import Path

import pytest

from adapters.local.removal import Remover


@pytest.mark.parametrize("is_file", [False, True], ids=["taken away", "a file in its place"])
def test_where_the_root_of_workspaces_is_gone_nothing_is_left_to_remove(
    tmp_path: Path, is_file: bool
) -> None:
    root = tmp_path / "local"
    if is_file:
        root.write_text("not a folder")
    Remover(root, mode=0o700).remove(root / "exe-1.1.1", lambda: False)
    assert root.exists() is is_file
