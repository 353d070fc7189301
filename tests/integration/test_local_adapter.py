"""The local adapter with real processes: nothing of a test outlives its worker, lease or limits."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from adapters.contract import (
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Collected,
    Exit,
    Handle,
    InvalidHandle,
    Lease,
    Line,
)
from adapters.local import LocalAdapter
from adapters.local.guardian import started_at
from adapters.local.place import place_of

pytestmark = [
    pytest.mark.kill,
    pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is known on Linux only"),
]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 15.0
LEASE_S = 1.5

# Writes its own pid and those of a child, a child in a session of its own, and a daemon that
# forked twice, left its session and folder, and cleared its environment; then all sleep.
TREE = """
DAEMON = '''
import os, sys, time
open(sys.argv[1], "a").write(f"daemon {os.getpid()}" + chr(10))
time.sleep(600)
'''
import os, sys, time
out = sys.argv[1]
def note(what):
    with open(out, "a") as file:
        file.write(f"{what} {os.getpid()}\\n")
if os.fork() == 0:
    note("child"); time.sleep(600)
if os.fork() == 0:
    os.setsid(); note("session"); time.sleep(600)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-c", DAEMON, out], {})
note("main")
print("started", flush=True)
time.sleep(600)
"""

# A worker in small: renews the lease until it is told otherwise, and prints how the run ended.
WORKER = """
import asyncio, sys
from pathlib import Path
from adapters.contract import Attempt, AttemptId, Bench, Lease
from adapters.local import LocalAdapter

async def main(state, lease_s, *command):
    loop = asyncio.get_running_loop()
    adapter = LocalAdapter(Path(state))
    attempt = Attempt(
        id=AttemptId(execution_id="exe_1", number=1, fence=1),
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


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Return the seconds it took for `condition` to hold."""
    began = time.monotonic()
    pause = 0.005
    while not condition():
        assert time.monotonic() - began < deadline_s, f"after {deadline_s} s not yet: {what}"
        os.sched_yield()
        subprocess.run(["sleep", str(pause)], check=True)
        pause = min(pause * 2, 0.05)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    return started_at(pid) is not None


def read_tree(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    return {name: int(pid) for name, pid in map(str.split, path.read_text().splitlines())}


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
        took_s = wait_for(lambda: not worker.living(), "the tree is dead")
        assert took_s < 3.0
        wait_for(lambda: not is_alive(worker.guardian), "the guardian has ended")
        assert not (worker.folder / "guardian").exists(), "it says that nothing is left"
    finally:
        worker.close()


def test_a_stopped_worker_loses_its_test_when_the_lease_ends(worker: SmallWorker) -> None:
    worker.process.send_signal(signal.SIGSTOP)
    took_s = wait_for(lambda: not worker.living(), "the tree is dead")
    assert took_s <= LEASE_S + 0.5, "by the end of the lease nothing may be alive"
    worker.process.send_signal(signal.SIGCONT)
    output, _ = worker.process.communicate(timeout=DEADLINE_S)
    assert "ended lease_expired" in output, "and the worker knows when it wakes up"


def test_a_worker_that_renews_keeps_its_test(worker: SmallWorker) -> None:
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 2 * LEASE_S, "two leases have passed")
    assert sorted(worker.living()) == ["child", "daemon", "main", "session"]


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

        async def next_life() -> None:
            adapter = LocalAdapter(worker.state)
            (handle,) = await adapter.leftovers()
            await adapter.teardown(handle)
            assert list(await adapter.leftovers()) == []

        asyncio.run(next_life())
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

        async def next_life() -> None:
            adapter = LocalAdapter(worker.state)
            for handle in await adapter.leftovers():
                await adapter.teardown(handle)

        asyncio.run(next_life())
        wait_for(lambda: not worker.living(), "the whole tree is dead, the daemon too")
        assert not is_alive(worker.guardian)
    finally:
        worker.close()


class Local:
    """Runs attempts in this process."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = tmp_path / "state"
        self.adapter = LocalAdapter(self.state)
        self.lines: list[Line] = []
        self.collected = Collected()
        self.handle = Handle("")
        self.heard: asyncio.Event | None = None
        self._number = 0

    def attempt(
        self,
        *command: str,
        config: Mapping[str, object] | None = None,
        timeout_s: float = 60.0,
        idle_timeout_s: float | None = None,
        grace_s: float = 5.0,
        env: Mapping[str, str] | None = None,
        artifacts: tuple[str, ...] = (),
        junit: tuple[str, ...] = (),
    ) -> Attempt:
        self._number += 1
        return Attempt(
            id=AttemptId(execution_id="exe_1", number=self._number, fence=3),
            bench=Bench(name="bench-1", config=config or {}),
            command=command,
            env=env or {},
            timeout_s=timeout_s,
            idle_timeout_s=idle_timeout_s,
            grace_s=grace_s,
            artifacts=artifacts,
            junit=junit,
        )

    async def on_lines(self, lines: Sequence[Line]) -> None:
        self.lines.extend(lines)
        if self.heard is not None:
            self.heard.set()

    async def run(self, attempt: Attempt) -> Exit:
        lease = Lease(until=asyncio.get_running_loop().time() + 60)
        self.handle = await self.adapter.provision(attempt)
        try:
            exit_ = await self.adapter.run(
                attempt, self.handle, on_lines=self.on_lines, lease=lease
            )
            self.collected = await self.adapter.collect(attempt, self.handle)
            return exit_
        finally:
            await self.adapter.teardown(self.handle)

    def play(self, attempt: Attempt) -> Exit:
        return asyncio.run(self.run(attempt))

    def text(self, stream: str = "stdout") -> list[str]:
        return [line.text for line in self.lines if line.stream == stream]


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path)


def test_streams_that_take_turns_come_in_their_order(local: Local) -> None:
    code = """
import sys, time
for number in range(20):
    print(number, file=sys.stderr if number % 2 else sys.stdout, flush=True)
    time.sleep(0.03)
"""
    local.play(local.attempt(sys.executable, "-c", code))
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


def test_a_flood_of_lines_comes_whole_and_fast(local: Local) -> None:
    code = "for number in range(200_000): print(f'{number:>99}')"
    began = time.perf_counter()
    local.play(local.attempt(sys.executable, "-c", code))
    took_s = time.perf_counter() - began
    assert [line.text for line in local.lines] == [f"{number:>99}" for number in range(200_000)]
    print(f"{200_000 / took_s:,.0f} lines/s")
    assert took_s < 10.0


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
    exit_ = local.play(local.attempt(*command, timeout_s=0.5, grace_s=0.3))
    assert exit_ == Exit(ended="timeout", signal=signal.SIGKILL)
    assert 0.8 <= time.monotonic() - began < 4.0


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
    exit_ = local.play(local.attempt(sys.executable, "-c", TREE, str(tree), timeout_s=1.5))
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


def test_the_environment_is_the_contract_s_and_holds_no_secret(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEO_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DISPLAY_OF_BENCH", ":7")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    attempt = local.attempt(
        sys.executable,
        "-c",
        code,
        env={"TEO_DEADLINE": "soon", "MINE": "1"},
        config={"pass_env": ["DISPLAY_*"]},
    )
    local.play(attempt)
    env = json.loads(local.text()[0])
    place = place_of(local.handle)
    assert env["TEO_EXECUTION_ID"] == "exe_1"
    assert (env["TEO_ATTEMPT"], env["TEO_FENCE"], env["TEO_BENCH"]) == ("1", "3", "bench-1")
    assert env["TEO_ARTIFACTS_DIR"] == str(place.artifacts)
    assert (env["TEO_DEADLINE"], env["MINE"], env["DISPLAY_OF_BENCH"]) == ("soon", "1", ":7")
    assert "PATH" in env
    assert not {"TEO_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(env)


def test_what_leads_out_of_the_workspace_is_refused_by_name(local: Local) -> None:
    script = """
mkdir out && echo good > out/good.bin
ln -s /etc/hostname out/host.bin
ln -s good.bin out/link.bin
ln -s / out/root
mkfifo out/pipe.bin
echo kept > $TEO_ARTIFACTS_DIR/kept
"""
    local.play(local.attempt("sh", "-ec", script, artifacts=("out/**/*.bin",)))
    found = {file.path for file in local.collected.found}
    assert found == {"artifacts/kept", "out/good.bin", "out/link.bin"}
    refused = {file.path: file.code for file in local.collected.refused}
    assert refused == {"out/host.bin": "outside_workspace", "out/pipe.bin": "not_a_file"}


def test_a_junit_glob_that_matches_nothing_is_told(local: Local) -> None:
    local.play(local.attempt("true", junit=("report.xml", "more/*.xml")))
    (told,) = local.collected.refused
    assert (told.path, told.code) == ("report.xml, more/*.xml", "no_match")
    local.play(local.attempt("touch", "report.xml", junit=("report.xml", "more/*.xml")))
    assert local.collected.refused == ()


def test_a_bench_directory_gives_new_files_only_and_stays(local: Local, tmp_path: Path) -> None:
    rig = tmp_path / "rig"
    rig.mkdir()
    (rig / "old.xml").write_text("<testsuite/>")
    os.utime(rig / "old.xml", (1, 1))
    attempt = local.attempt(
        "sh",
        "-c",
        "pwd; echo x > new.xml; echo y > $TEO_ARTIFACTS_DIR/y",
        config={"directory": str(rig)},
        junit=("*.xml",),
    )
    local.play(attempt)
    assert local.text() == [str(rig)]
    assert [(file.kind, file.path) for file in local.collected.found] == [
        ("artifact", "artifacts/y"),
        ("junit", "new.xml"),
    ]
    assert sorted(path.name for path in rig.iterdir()) == ["new.xml", "old.xml"]


def test_a_copied_folder_is_used_up_and_its_old_reports_are_no_evidence(
    local: Local, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "suite.sh").write_text("echo '<testsuite/>' > fresh.xml; rm stays\n")
    (source / "stale.xml").write_text("<testsuite/>")
    (source / "stays").write_text("")
    attempt = local.attempt("sh", "suite.sh", config={"copy": str(source)}, junit=("*.xml",))
    assert local.play(attempt).code == 0
    assert [file.path for file in local.collected.found] == ["fresh.xml"]
    assert (source / "stays").exists()
    assert not place_of(local.handle).folder.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), "no such program in PATH"),
        (("./none",), "No such file"),
        (("./plain",), "not executable"),
        (("./garbage",), "not a program"),
        (("./script",), "interpreter"),
    ],
)
def test_a_command_that_cannot_start_says_why(
    local: Local, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "script").write_text("#!/no/such/interpreter\n")
    (source / "script").chmod(0o755)
    (source / "plain").write_text("text")
    (source / "plain").chmod(0o644)
    (source / "garbage").write_text("text")
    (source / "garbage").chmod(0o755)
    attempt = local.attempt(*command, config={"copy": str(source)})
    with pytest.raises(CannotStart, match=words) as caught:
        local.play(attempt)
    assert repr(command[0]) in str(caught.value)


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (("echo", "a\0b"), {}),
        (("echo", "\ud800"), {}),
        (("echo",), {"A": "a\0B=b"}),
        (("echo",), {"A=B": "c"}),
        (("echo",), {"": "c"}),
    ],
)
def test_what_no_process_can_be_given_is_refused(
    local: Local, command: tuple[str, ...], env: dict[str, str]
) -> None:
    with pytest.raises(CannotStart, match="cannot start 'echo'"):
        local.play(local.attempt(*command, env=env))
    assert local.lines == []


def test_a_folder_that_is_gone_is_the_lab_s_fault(local: Local, tmp_path: Path) -> None:
    attempt = local.attempt("true", config={"directory": str(tmp_path / "none")})
    with pytest.raises(AdapterError) as caught:
        local.play(attempt)
    assert caught.value.code == "directory_missing"


def test_nothing_is_provisioned_twice(local: Local) -> None:
    attempt = local.attempt("true")

    async def play() -> None:
        handle = await local.adapter.provision(attempt)
        with pytest.raises(AdapterError) as caught:
            await local.adapter.provision(attempt)
        assert caught.value.code == "already_provisioned"
        await local.adapter.teardown(handle)

    asyncio.run(play())


def test_a_forged_handle_removes_nothing(local: Local, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "exe_1.1.1"
    precious.mkdir(parents=True)
    real = json.loads(local.adapter.handle_for(local.attempt("true").id, Bench(name="b")))

    async def play(place: str) -> None:
        with pytest.raises(InvalidHandle):
            await local.adapter.teardown(Handle(json.dumps({**real, "place": place})))

    for place in (str(precious), str(tmp_path), f"{local.state}/../home/exe_1.1.1", "exe_1.1.1"):
        asyncio.run(play(place))
    assert precious.exists()


def test_a_handle_of_another_machine_is_not_called_torn_down(local: Local) -> None:
    real = json.loads(local.adapter.handle_for(local.attempt("true").id, Bench(name="b")))

    async def play() -> None:
        with pytest.raises(AdapterError) as caught:
            await local.adapter.teardown(Handle(json.dumps({**real, "host": "elsewhere"})))
        assert caught.value.code == "other_machine"

    asyncio.run(play())


def test_a_limit_reached_before_the_guardian_is_up_is_kept(local: Local) -> None:
    for timeout_s in (0.0, 0.001, 0.005, 0.01, 0.02, 0.03):
        began = time.monotonic()
        exit_ = local.play(local.attempt("sleep", "60", timeout_s=timeout_s))
        assert exit_.ended == "timeout"
        assert time.monotonic() - began < 5.0


def test_a_long_command_and_environment_reach_the_test(local: Local) -> None:
    words = [f"word-{number}-{'x' * 100}" for number in range(3000)]
    env = {f"NAME_{number}": "y" * 1000 for number in range(300)}
    code = "import os, sys; print(len(sys.argv), sum(n.startswith('NAME_') for n in os.environ))"
    assert local.play(local.attempt(sys.executable, "-c", code, *words, env=env)).code == 0
    assert local.text() == ["3001 300"]


def test_no_descriptor_is_lost(local: Local) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def play() -> None:
        await local.run(local.attempt("true"))
        before = descriptors()
        for _ in range(3):
            await local.run(local.attempt("true"))
            await local.run(local.attempt("sleep", "9", timeout_s=0.05))
            with pytest.raises(CannotStart):
                await local.run(local.attempt("no-such-program"))
        assert descriptors() == before

    asyncio.run(play())
