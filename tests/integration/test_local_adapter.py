"""The local adapter with real processes: streams, ends, limits, and nothing left behind."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.contract import (
    AdapterError,
    Exit,
    Line,
)
from adapters.local import LocalAdapter
from adapters.local.place import place_of
from tests.integration.local_bench import Local
from tests.integration.trees import DEADLINE_S, ON_LINUX, TREE, is_alive, read_tree

pytestmark = [pytest.mark.kill, ON_LINUX]


def test_streams_that_take_turns_come_in_their_order(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import pathlib, sys, time
for number in range(20):
    print(number, file=sys.stderr if number % 2 else sys.stdout, flush=True)
    while not pathlib.Path(sys.argv[1], str(number)).exists():
        time.sleep(0.001)
"""
    take = local.on_lines

    async def on_lines(lines: Sequence[Line]) -> None:
        await take(lines)
        for line in lines:
            (tmp_path / line.text).touch()  # The next turn begins once this one was heard.

    monkeypatch.setattr(local, "on_lines", on_lines)
    local.play(local.attempt(sys.executable, "-c", code, str(tmp_path)))
    assert [line.text for line in local.lines] == [str(number) for number in range(20)]
    assert [line.stream for line in local.lines] == ["stdout", "stderr"] * 10


def test_merged_streams_keep_the_exact_order(local: Local) -> None:
    code = """
import os
for number in range(2000):
    os.write(1 + number % 2, b"%d\\n" % number)
"""
    local.play(local.attempt(sys.executable, "-c", code, config={"merge_streams": True}))
    assert local.text("stdout") == [str(number) for number in range(2000)]


def test_a_flood_of_lines_comes_whole(local: Local) -> None:
    code = "for number in range(200_000): print(f'{number:>99}')"
    local.play(local.attempt(sys.executable, "-c", code))
    assert [line.text for line in local.lines] == [f"{number:>99}" for number in range(200_000)]


def test_the_last_partial_line_and_bad_bytes_are_kept(local: Local) -> None:
    local.play(local.attempt("printf", r"a\377b\nlast"))
    assert local.text() == ["a\N{REPLACEMENT CHARACTER}b", "last"]


def test_a_signal_is_told_from_an_exit_code(local: Local) -> None:
    assert local.play(local.attempt("sh", "-c", "kill -9 $$")) == Exit(ended="exited", signal=9)
    assert local.play(local.attempt("sh", "-c", "exit 137")) == Exit(ended="exited", code=137)


def test_cancel_lets_a_test_clean_up_and_hears_its_last_words(local: Local) -> None:
    command = ("sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")

    async def play() -> None:
        local.heard = asyncio.Event()
        running = asyncio.create_task(local.run(local.attempt(*command)))
        await local.heard.wait()
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(play())
    assert local.text() == ["up", "bye"]


def test_a_test_that_ignores_sigterm_is_killed_after_its_grace(local: Local) -> None:
    command = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    began = time.monotonic()
    exit_ = local.play(local.attempt(*command, timeout_s=2.0, grace_s=0.3))
    assert exit_ == Exit(ended="timeout", signal=signal.SIGKILL)
    assert 2.3 <= time.monotonic() - began < DEADLINE_S


def test_a_second_cancel_does_not_wait_for_the_grace(local: Local) -> None:
    command = ("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done")

    async def play() -> None:
        local.heard = asyncio.Event()
        attempt = local.attempt(*command, grace_s=60.0)
        running = asyncio.create_task(local.run(attempt))
        await local.heard.wait()
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running}, timeout=DEADLINE_S)
        assert running.cancelled()

    asyncio.run(play())
    assert not is_alive(int(local.text()[0]))


def test_a_timeout_ends_daemons_too(local: Local, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    exit_ = local.play(local.attempt(sys.executable, "-c", TREE, str(tree), timeout_s=4.0))
    assert exit_.ended == "timeout"
    assert len(read_tree(tree)) == 4
    assert not [name for name, pid in read_tree(tree).items() if is_alive(pid)]


def test_what_a_passed_test_leaves_running_is_ended(local: Local, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    # The tree is a child that goes on when its parent, the test, has passed.
    wait = f"for i in $(seq 200); do grep -q daemon {tree} && break; sleep 0.05; done"
    script = f'{sys.executable} -c "$0" {tree} & {wait}'
    exit_ = local.play(local.attempt("sh", "-c", script, TREE))
    assert exit_ == Exit(ended="exited", code=0)
    assert "daemon" in read_tree(tree)
    assert not [name for name, pid in read_tree(tree).items() if is_alive(pid)]


def test_a_killed_guardian_is_the_lab_s_fault_and_leaves_nothing(
    local: Local, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"

    async def play() -> None:
        local.heard = asyncio.Event()
        attempt = local.attempt(sys.executable, "-c", TREE, str(tree))
        running = asyncio.create_task(local.run(attempt))
        await local.heard.wait()
        async with asyncio.timeout(DEADLINE_S):
            while len(read_tree(tree)) < 4:  # noqa: ASYNC110 - other processes write it.
                await asyncio.sleep(0.01)
        os.kill(read_tree(tree)["daemon"], signal.SIGKILL)
        guardian = int(place_of(local.handle).pidfile.read_text().split()[0])
        os.kill(guardian, signal.SIGKILL)
        with pytest.raises(AdapterError) as caught:
            await running
        assert (caught.value.code, caught.value.retriable) == ("guardian_lost", True)

    asyncio.run(play())
    assert not [name for name, pid in read_tree(tree).items() if is_alive(pid)]


def test_a_copy_of_the_folder_is_cleared_and_what_runs_in_the_folder_goes_on(
    local: Local, tmp_path: Path
) -> None:
    """Whoever copied it may have it from a backup, for another worker, or for another lab."""

    async def play() -> Exit:
        local.heard = asyncio.Event()
        attempt = local.attempt("sh", "-c", "echo begins; sleep 2; echo ends")
        running = asyncio.create_task(local.run(attempt))
        await local.heard.wait()
        shutil.copytree(local.state, tmp_path / "copy", symlinks=True)
        other = LocalAdapter(tmp_path / "copy")
        (found,) = await other.leftovers()
        await other.teardown(found)
        assert not list((tmp_path / "copy").glob("exe_*"))
        return await running

    assert asyncio.run(play()) == Exit(ended="exited", code=0)
    assert local.text() == ["begins", "ends"]
