"""What `teo up` writes and says beside its work; none of it stops the work."""

import asyncio
import errno
import json
import os

import pytest

from cli import contexts
from cli.local import stack
from cli.local.stack import Stack, StackConfig
from cli.problems import OutputLost, Problem

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
LAB = "http://lab.example:80"


@pytest.fixture
def said():
    return []


@pytest.fixture
def up(tmp_path, said, monkeypatch):
    monkeypatch.setenv("TEO_CONFIG", str(tmp_path / "cfg" / "config.yaml"))
    found = Stack(StackConfig(folder=tmp_path), note=said.append)
    found.server, found.token = "http://127.0.0.1:8642", "t0ken"
    return found


@pytest.mark.parametrize("error", [FULL, OutputLost(FULL), ValueError("closed")], ids=repr)
def test_a_note_that_cannot_be_said_stops_nothing(up, error):
    def note(_):
        raise error

    up.note = note
    up.say("Kafka ended")


def test_the_state_follows_the_processes_once_there_is_room_again(up, tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "STATE_RETRY_S", 0.0)
    failures, is_written = iter([FULL, FULL, FULL]), asyncio.Event()
    write_whole = stack.write_whole

    def on_a_full_disk(path, content):
        for error in failures:
            raise error
        write_whole(path, content)
        is_written.set()

    monkeypatch.setattr(stack, "write_whole", on_a_full_disk)

    async def scene():
        keeping = asyncio.create_task(up.keep_state())
        up.has_pid("worker", 7)
        async with asyncio.timeout(10):
            await is_written.wait()
        keeping.cancel()

    asyncio.run(scene())
    assert json.loads((tmp_path / "up.json").read_text())["roles"] == {"worker": 7}


def test_where_commands_go_is_said_and_given_back(up, said):
    contexts.write_context("lab", server=LAB, token=None)
    up.take_context()
    assert contexts.read().current == "local"
    assert "not to 'lab' as before" in up.notes[0]
    up.give_context_back()
    assert contexts.read().current == "lab"
    assert said == ["commands go to the context 'lab' again"]


def test_a_first_context_is_taken_in_silence_and_kept(up, said):
    up.take_context()
    up.give_context_back()
    assert contexts.read().current == "local"
    assert (up.notes, said) == ([], [])


def test_a_context_that_was_chosen_meanwhile_is_kept(up):
    contexts.write_context("lab", server=LAB, token=None)
    up.take_context()
    contexts.write_context("other", server=LAB, token=None)
    up.give_context_back()
    assert contexts.read().current == "other"


def test_a_local_system_that_came_up_later_keeps_its_context(up):
    contexts.write_context("lab", server=LAB, token=None)
    up.take_context()
    contexts.write_context("local", server="http://127.0.0.1:9999", token="other")
    up.give_context_back()
    assert contexts.read().current == "local"


def test_what_was_before_outlives_a_kill(up, tmp_path):
    contexts.write_context("lab", server=LAB, token=None)
    up.take_context()
    up.write_state()
    again = Stack(up.config, note=up.note)
    again.server, again.token = "http://127.0.0.1:8643", "t0ken"
    again.take_context()
    assert again.context_before == "lab"
    again.give_context_back()
    assert contexts.read().current == "lab"


def test_a_context_that_cannot_be_written_is_no_reason_not_to_come_up(up, tmp_path, said):
    (tmp_path / "cfg").touch()
    up.take_context()
    assert "no context was written" in up.notes[0]
    assert "TEO_TOKEN" in up.notes[1]
    up.give_context_back()
    assert said == []


@pytest.mark.parametrize("error", [FULL, PermissionError(errno.EACCES, "Permission denied")])
def test_a_folder_that_cannot_be_written_is_one_line_with_the_next_step(up, error, monkeypatch):
    async def take(*_):
        raise error

    monkeypatch.setattr(stack, "take", take)
    with pytest.raises(Problem, match=error.strerror) as refused:
        up.run()
    assert refused.value.exit_code == 3
    assert "--data-dir" in refused.value.next_step


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_what_a_power_cut_takes_is_said(tmp_path, durability):
    found = Stack(StackConfig(folder=tmp_path, durability=durability), note=print)
    found.tell_durability()
    assert [("a power cut takes" in note) for note in found.notes] == [True] * (
        durability == "memory"
    )
