"""Who runs in a folder is told by a lock that its processes hold, whatever a file says."""

import asyncio
import subprocess
from dataclasses import replace

import pytest

from cli.local import DataFolderRefused, occupant
from cli.local.identity import Identity
from cli.local.occupant import LOCK_FILE, take


def taken(folder, notes=()):
    return asyncio.run(take(folder, list(notes).append))


def test_nobody_runs_where_there_is_no_lock_or_nobody_holds_it(tmp_path):
    assert occupant.occupant(tmp_path) is None
    assert occupant.occupant(tmp_path / "none") is None
    (tmp_path / LOCK_FILE).write_text(str(Identity.own()))
    assert occupant.occupant(tmp_path) is None, "a note that a power cut has left"
    taken(tmp_path).close()
    assert occupant.occupant(tmp_path) is None


def test_a_folder_with_a_living_owner_is_refused_at_once(tmp_path):
    with taken(tmp_path):
        found = occupant.occupant(tmp_path)
        assert found is not None
        assert (found.owner, found.is_left_over) == (Identity.own(), False)
        with pytest.raises(DataFolderRefused, match=f"of process {Identity.own().pid}"):
            taken(tmp_path)


@pytest.mark.parametrize("owner", ["dead", "torn"])
def test_what_a_killed_owner_left_is_waited_for(tmp_path, owner, monkeypatch):
    monkeypatch.setattr(occupant, "LEFT_S_MAX", 0.2)
    lock = taken(tmp_path)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as role:
        lock.close()  # As if the owner were killed: its role holds the lock still.
        text = str(replace(Identity.own(), started=1)) if owner == "dead" else "\0\0"
        (tmp_path / LOCK_FILE).write_text(text)
        found = occupant.occupant(tmp_path)
        assert found is not None
        assert found.is_left_over
        with pytest.raises(DataFolderRefused, match=f"fuser {tmp_path / LOCK_FILE}"):
            taken(tmp_path)
        monkeypatch.setattr(occupant, "LEFT_S_MAX", 30.0)

        async def scene():
            waiting = asyncio.create_task(take(tmp_path, lambda _: None))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            role.kill()
            (await waiting).close()

        asyncio.run(scene())
