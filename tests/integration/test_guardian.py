"""The guardian: no test outlives its worker or its lease, whatever is done to either."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.local import LocalAdapter
from tests.integration.trees import DEADLINE_S, ON_LINUX, TREE, is_alive, read_tree, wait_for

pytestmark = [pytest.mark.kill, ON_LINUX]

ROOT = Path(__file__).parents[2]
LEASE_S = 1.5

# A worker in small: renews the lease until it is told otherwise, and prints how the run ended.
WORKER = """
import asyncio, sys, uuid
from pathlib import Path
from adapters.contract import Attempt, AttemptId, Bench, Lease
from adapters.local import LocalAdapter

async def main(state, lease_s, *command):
    loop = asyncio.get_running_loop()
    adapter = LocalAdapter(Path(state))
    attempt = Attempt(
        id=AttemptId(execution_id=f"exe_{uuid.uuid4().hex}", number=1, fence=1),
        bench=Bench(name="b"), command=command, timeout_s=300,
    )
    handle = await adapter.provision(attempt)
    lease = Lease(until=loop.time() + float(lease_s))
    async def renew():
        while True:
            sent_at = loop.time()
            await asyncio.sleep(0.1)
            lease.renew(sent_at + float(lease_s))
    async def show(lines):
        pass
    renewing = asyncio.create_task(renew())
    print("handle", handle, flush=True)
    exit_ = await adapter.run(attempt, handle, on_lines=show, lease=lease)
    print("ended", exit_.ended, flush=True)
    renewing.cancel()

asyncio.run(main(*sys.argv[1:]))
"""


class SmallWorker:
    """A worker process that runs the tree."""

    def __init__(self, tmp_path: Path, *, lease_s: float = LEASE_S) -> None:
        self.state = tmp_path / "state"
        tree = tmp_path / "tree"
        command = [sys.executable, "-c", TREE, str(tree)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.state), str(lease_s), *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tree: dict[str, int] = {}
        self.guardian = 0
        try:
            wait_for(lambda: len(read_tree(tree)) == 4, "the tree runs")
            self.tree = read_tree(tree)
            (self.folder,) = (path for path in self.state.iterdir() if path.is_dir())
            self.guardian = int((self.folder / "guardian").read_text().split()[0])
            assert sorted(self.living()) == ["child", "daemon", "main", "session"]
        except BaseException:
            self.close()
            raise

    def living(self) -> list[str]:
        return [name for name, pid in self.tree.items() if is_alive(pid)]

    def close(self) -> None:
        for pid in (self.process.pid, self.guardian, *self.tree.values()):
            if pid and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[SmallWorker]:
    small = SmallWorker(tmp_path)
    try:
        yield small
    finally:
        small.close()


def test_kill_9_of_the_worker_ends_the_whole_tree_at_once(tmp_path: Path) -> None:
    # The lease would let it live on for long: it is the worker's death that counts.
    worker = SmallWorker(tmp_path, lease_s=120.0)
    try:
        worker.process.kill()
        wait_for(lambda: not worker.living(), "the tree is dead")
        wait_for(lambda: not is_alive(worker.guardian), "the guardian has ended")
        assert not (worker.folder / "guardian").exists(), "it says that nothing is left"
    finally:
        worker.close()


def test_a_stopped_worker_loses_its_test_when_the_lease_ends(worker: SmallWorker) -> None:
    worker.process.send_signal(signal.SIGSTOP)
    took_s = wait_for(lambda: not worker.living(), "the tree is dead")
    assert took_s < 2 * LEASE_S, "by the end of the lease nothing may be alive"
    worker.process.send_signal(signal.SIGCONT)
    output, _ = worker.process.communicate(timeout=DEADLINE_S)
    assert "ended lease_expired" in output, "and the worker knows when it wakes up"


def test_a_worker_that_renews_keeps_its_test(worker: SmallWorker) -> None:
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 2 * LEASE_S, "two leases have passed")
    assert sorted(worker.living()) == ["child", "daemon", "main", "session"]


async def next_life(worker: SmallWorker) -> None:
    """Tear down the one thing that is left over, and find nothing more."""
    adapter = LocalAdapter(worker.state)
    (handle,) = await adapter.leftovers()
    await adapter.teardown(handle)
    assert list(await adapter.leftovers()) == []


def test_the_next_life_ends_what_worker_and_guardian_left(tmp_path: Path) -> None:
    worker = SmallWorker(tmp_path)
    try:
        # The guardian first: else it would end the tree before it dies.
        os.kill(worker.guardian, signal.SIGSTOP)
        worker.process.kill()
        worker.process.wait()
        os.kill(worker.guardian, signal.SIGKILL)
        # The direct child dies with its guardian; the kernel sees to that.
        wait_for(lambda: not is_alive(worker.tree["main"]), "the main process is dead")
        # The daemon hides on purpose: no variable, no folder, no parent. Nothing can know it.
        os.kill(worker.tree["daemon"], signal.SIGKILL)
        assert {"child", "session"} <= set(worker.living())

        asyncio.run(next_life(worker))
        wait_for(lambda: not worker.living(), "the tree is dead")
        assert not worker.folder.exists()
    finally:
        worker.close()


def test_the_next_life_ends_what_a_stopped_guardian_guards(tmp_path: Path) -> None:
    worker = SmallWorker(tmp_path)
    try:
        os.kill(worker.guardian, signal.SIGSTOP)
        worker.process.kill()
        worker.process.wait()

        asyncio.run(next_life(worker))
        wait_for(lambda: not worker.living(), "the whole tree is dead, the daemon too")
        assert not is_alive(worker.guardian)
    finally:
        worker.close()
