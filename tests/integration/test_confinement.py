"""A test that wants out: what it finds of its guardian and worker, and what is left of it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.contract import AdapterError, Exit, Lease
from adapters.local import cgroup, confine, orphans, tree
from adapters.local.place import place_for, place_of
from tests.integration.local_bench import Local
from tests.integration.trees import DEADLINE_S, ON_LINUX, is_alive, wait_for

pytestmark = [pytest.mark.kill, ON_LINUX]

ROOT = Path(__file__).parents[2]
SECRET = "TEO_TEST_SECRET_OF_THE_WORKER"

# Kills its guardian once a daemon is on its way that left session, folder, streams and environment.
# Further ways to hide come as arguments.
RUNAWAY = """
import ctypes, os, resource, signal, sys, time
out, guardian, *ways = sys.argv[1:]
def hide():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    for fd in range(3):
        os.close(fd)
    if "unreadable" in ways:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    if "lower" in ways:
        resource.setrlimit(10, (7, 7))
    if "reaper" in ways:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        if os.fork():
            time.sleep(600)
        os.setsid()
    if "pidfile" in ways:
        os.unlink(os.path.join(os.environ["TEO_ARTIFACTS_DIR"], "../../guardian"))
    if "exec" in ways:
        code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()))"
        code += "; time.sleep(600)"
        os.execve(sys.executable, [sys.executable, "-c", code, out], {})
    with open(out, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
if os.fork() == 0:
    hide()
while not os.path.exists(out) or not open(out).read():
    time.sleep(0.01)
for pid in guardian.split(","):
    os.kill(int(pid) if pid != "parent" else os.getppid(), signal.SIGKILL)
time.sleep(600)
"""
WAYS = {
    "empty environment": ["exec"],
    "nobody may read it": ["unreadable"],
    "its mark lowered": ["exec", "lower"],
    "its own subreaper": ["reaper", "exec"],
    "the guardian's note removed": ["exec", "pidfile"],
    "all of it": ["exec", "unreadable", "lower", "reaper", "pidfile"],
}


@pytest.fixture
def no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "base_group", lambda: None)


@pytest.fixture
def with_cgroup(local: Local) -> Iterator[None]:
    if cgroup.base_group() is None:
        pytest.skip("no control group of version 2 is delegated to this process")
    yield
    # Of its own: tests beside this one have theirs in the same place.
    assert cgroup.groups_of(place_of(local.handle)) == [], "no group is left behind"


def run_away(local: Local, out: Path, ways: list[str]) -> int:
    """Play a test that kills its guardian; return the pid of what it left."""
    attempt = local.attempt(sys.executable, "-c", RUNAWAY, str(out), "parent", *ways)
    with pytest.raises(AdapterError) as caught:
        local.play(attempt)
    assert caught.value.code == "guardian_lost"
    return int(out.read_text())


@pytest.mark.usefixtures("no_cgroup")
@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_what_a_test_left_that_killed_its_guardian_is_ended(
    local: Local, tmp_path: Path, ways: list[str]
) -> None:
    assert not is_alive(run_away(local, tmp_path / "pid", ways))


@pytest.mark.usefixtures("with_cgroup")
@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_the_control_group_of_a_test_that_killed_its_guardian_is_emptied(
    local: Local, tmp_path: Path, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_is_marked", lambda *_, **__: False)
    monkeypatch.setattr(orphans, "_has_variables", lambda *_, **__: False)
    assert not is_alive(run_away(local, tmp_path / "pid", ways))


@pytest.mark.usefixtures("no_cgroup")
def test_without_the_marks_a_daemon_outlives_its_guardian(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the protection off, the same attack succeeds."""
    monkeypatch.setattr(orphans, "_is_marked", lambda *_, **__: False)
    pid = run_away(local, tmp_path / "pid", WAYS["empty environment"])
    try:
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# Each process of it lives as long as it takes to start the next.
CHAIN = """
import os, signal, sys, time
ends_at = time.monotonic() + 60
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getppid(), flush=True)
if os.fork():
    if "kill" in sys.argv:
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    os._exit(0)
for fd in range(3):
    os.close(fd)
while time.monotonic() < ends_at:
    os.setsid()
    if os.fork():
        os._exit(0)
"""


@pytest.mark.usefixtures("no_cgroup")
@pytest.mark.parametrize("ways", [[], ["kill"]], ids=["guarded", "guardian killed"])
def test_a_chain_of_processes_is_ended_and_leaves_no_dead_ones(
    local: Local, ways: list[str]
) -> None:
    """Whoever does not wait for what it adopts has the machine's table of processes fill up."""
    confine.adopt_orphans()
    before = set(tree.children())
    attempt = local.attempt(sys.executable, "-c", CHAIN, *ways)
    with pytest.raises(AdapterError) if ways else contextlib.nullcontext():
        local.play(attempt)
    mark = orphans.mark_for(place_of(local.handle))
    assert [pid for pid, *_ in tree.processes() if tree.mark_of(pid) == mark] == []
    assert set(tree.children()) <= before


def test_a_chain_that_nobody_adopted_is_ended_by_the_next_life(local: Local) -> None:
    place = place_for(local.state, local.attempt("true").id)
    place.make()
    mark = orphans.mark_for(place)
    # Its parent is dead, and this process is none of those that adopt it.
    start = "import os, resource, sys; resource.setrlimit(10, (int(sys.argv[1]),) * 2); "
    start += "os.fork() or os.execv(sys.executable, [sys.executable, '-c', sys.argv[2]])"
    adopt = "import ctypes, subprocess, sys, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
    adopt += "subprocess.run(sys.argv[1:]); print('begun', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", start, str(mark), CHAIN]
    with subprocess.Popen(
        [sys.executable, "-c", adopt, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as foster:
        assert foster.stdout is not None
        while foster.stdout.readline() != b"begun\n":
            pass
        time.sleep(0.3)
        assert orphans.end_orphans(place, of_another_life=True) >= 1
        ends_at = time.monotonic() + 0.5
        while time.monotonic() < ends_at:
            assert tree.mark_of(tree.newest()) != mark
        foster.kill()


LIVES = """
import asyncio, sys
from pathlib import Path
from adapters.contract import Attempt, AttemptId, Bench, Lease
from adapters.local import LocalAdapter, cgroup
if sys.argv[2] == "no-cgroup":
    cgroup.base_group = lambda: None

async def main(state, _cgroup, *command):
    adapter = LocalAdapter(Path(state))
    for handle in await adapter.leftovers():
        await adapter.teardown(handle)
        print("torn down", flush=True)
    if not command:
        return
    attempt = Attempt(
        id=AttemptId(execution_id="exe_runaway", number=1, fence=1),
        bench=Bench(name="b"), command=command, timeout_s=300,
    )
    async def show(lines): pass
    handle = await adapter.provision(attempt)
    lease = Lease(until=asyncio.get_running_loop().time() + 300)
    await adapter.run(attempt, handle, on_lines=show, lease=lease)

asyncio.run(main(*sys.argv[1:]))
"""
# All that a user of one machine can kill at once, and then it goes on, unknown to anybody.
KILL_ALL = """
import os, signal, sys, time
if os.fork():
    time.sleep(600)
os.setsid()
os.chdir("/")
os.kill(-1, signal.SIGKILL)
code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
os.execve(sys.executable, [sys.executable, "-c", code, sys.argv[1]], {})
"""
# The first process of a world of its own: what supervises there, and what `kill -9 -1` spares.
SUPERVISOR = """
"$1" -c "$2" "$4" "$6" "$1" -c "$3" "$5"
while ! test -s "$5"; do sleep 0.05; done
test -d /proc/"$(cat "$5")" && echo alive
"$1" -c "$2" "$4" "$6"
test -d /proc/"$(cat "$5")" || echo dead
"""


@pytest.mark.parametrize("group", ["cgroup", "no-cgroup"])
def test_kill_of_everything_is_survived_until_the_next_life_only(
    tmp_path: Path, group: str
) -> None:
    world = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*world, "true"], check=False).returncode:
        pytest.skip("this user cannot make a world of its own processes (unshare --pid)")
    if group == "cgroup" and cgroup.base_group() is None:
        pytest.skip("no control group of version 2 is delegated to this process")
    texts = [sys.executable, LIVES, KILL_ALL, str(tmp_path / "state"), str(tmp_path / "pid"), group]
    done = subprocess.run(
        [*world, "sh", "-c", SUPERVISOR, "sh", *texts],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line in {"alive", "torn down", "dead"}]
    assert said == ["alive", "torn down", "dead"]


LOOK = """
import ctypes, os
def look(what, do):
    try:
        print(what, repr(do()), flush=True)
    except OSError as error:
        print(what, error.strerror, flush=True)
parent = os.getppid()
def read(name):
    return open(f"/proc/{parent}/{name}", "rb").read(100)
def attach():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, parent, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "attached"
look("environ", lambda: read("environ"))
look("mem", lambda: os.open(f"/proc/{parent}/mem", os.O_RDWR))
look("fds", lambda: [os.open(f"/proc/{parent}/fd/{fd}", os.O_RDWR) for fd in range(3, 20)])
look("ptrace", attach)
look("mine", lambda: sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1])
look("secrets", lambda: [n for n in os.environ if "SECRET" in n])
look("worker", lambda: open(f"/proc/{os.environ['WORKER']}/environ", "rb").read())
"""


# A worker as anybody runs it: a root has capabilities beside its number, and looks where it likes.
AS_ANYBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
ONE = """
import asyncio, os, sys
from pathlib import Path
from adapters.contract import Attempt, AttemptId, Bench, Lease
from adapters.local import LocalAdapter, confine
if sys.argv[2] == "hidden":
    confine.hide()
else:
    confine.hide = lambda: None

async def main(state, _, *command):
    adapter = LocalAdapter(Path(state))
    attempt = Attempt(
        id=AttemptId(execution_id="exe_look", number=1, fence=1), bench=Bench(name="b"),
        command=command, env={"WORKER": str(os.getpid())}, timeout_s=60,
    )
    async def show(lines):
        print(*[line.text for line in lines], sep="\\n", flush=True)
    handle = await adapter.provision(attempt)
    lease = Lease(until=asyncio.get_running_loop().time() + 60)
    await adapter.run(attempt, handle, on_lines=show, lease=lease)
    await adapter.teardown(handle)

asyncio.run(main(*sys.argv[1:]))
"""


def looked(tmp_path: Path, how: str) -> dict[str, str]:
    """Return what a test finds out about its guardian and its worker."""
    done = subprocess.run(
        [*AS_ANYBODY, sys.executable, "-c", ONE, str(tmp_path), how, sys.executable, "-c", LOOK],
        env={**os.environ, "PYTHONPATH": str(ROOT), SECRET: "s3cret"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_a_test_finds_nothing_in_its_guardian_and_its_worker(tmp_path: Path) -> None:
    seen = looked(tmp_path, "hidden")
    assert (seen["mine"], seen["secrets"]) == ("[0, 1, 2]", "[]")
    assert {seen[what] for what in ("environ", "mem", "fds", "worker")} == {"Permission denied"}
    assert seen["ptrace"] == "Operation not permitted"


def test_what_is_not_hidden_is_seen_and_the_guardian_has_nothing_to_show(tmp_path: Path) -> None:
    """The control: a worker that does not hide shows its secret; its guardian has none."""
    seen = looked(tmp_path, "open")
    assert seen["worker"].startswith("b'")
    assert SECRET not in seen["environ"]


def status_of(local: Local, config: Mapping[str, object]) -> dict[str, str]:
    local.play(local.attempt("cat", "/proc/self/status", config=config))
    return dict(line.split(":\t", 1) for line in local.text() if ":\t" in line)


def test_a_test_cannot_become_more_than_it_is_unless_its_bench_says_so(local: Local) -> None:
    assert status_of(local, {})["NoNewPrivs"] == "1"
    local.lines.clear()
    assert status_of(local, {"privileges": "keep"})["NoNewPrivs"] == "0"


def test_a_test_that_stops_its_guardian_ends_at_its_own_limit(local: Local) -> None:
    script = "kill -STOP $PPID; echo $$; while :; do sleep 0.1; done"
    attempt = local.attempt("sh", "-c", script, timeout_s=1.0, grace_s=0.1)
    exit_ = local.play(attempt)
    assert (exit_.ended, exit_.signal) == ("timeout", signal.SIGKILL)
    assert not is_alive(int(local.text()[0]))


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a test as another user")
HARM = """
say() { what=$1; shift; if "$@" 2>/dev/null; then echo $what done; else echo $what refused; fi; }
echo uid $(id -u) $(id -G)
say guardian kill -9 $PPID
say worker kill -9 $WORKER
say other ls $OTHER
say note rm -f $TEO_ARTIFACTS_DIR/../../guardian
say mine touch file
say home touch $HOME/file
setsid sh -c 'setsid env -i sleep 600 & exit' &
wait
"""


@AS_ROOT
def test_a_test_of_its_own_user_can_neither_kill_nor_read_what_is_not_its_own(
    local: Local, tmp_path: Path
) -> None:
    other = local.state / "other"
    other.mkdir(parents=True)
    env = {"WORKER": str(os.getpid()), "OTHER": str(other)}
    exit_ = local.play(local.attempt("sh", "-c", HARM, config={"user": "dynamic"}, env=env))
    assert exit_ == Exit(ended="exited", code=0)
    said = dict(line.split(" ", 1) for line in local.text())
    uid = int(said["uid"].split()[0])
    assert said["uid"] == f"{uid} {uid}", "and no group that the worker is in"
    assert uid != 0
    assert {said[what] for what in ("guardian", "worker", "other", "note")} == {"refused"}
    assert (said["mine"], said["home"]) == ("done", "done")
    left = [path for path in Path("/proc").glob("[0-9]*") if owner(path) == uid]
    assert left == []


def owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:
        return None


@AS_ROOT
def test_two_benches_never_share_a_user_and_one_keeps_its_own(local: Local) -> None:
    uids = []
    for bench in ("a", "b", "a"):
        attempt = local.attempt("id", "-u", config={"user": "dynamic"})
        local.play(replace(attempt, bench=replace(attempt.bench, name=bench)))
        uids.append(local.text()[-1])
    assert uids[0] == uids[2] != uids[1]


@pytest.mark.usefixtures("no_cgroup")
def test_what_a_test_writes_into_our_notes_ends_no_stranger(local: Local, tmp_path: Path) -> None:
    """Notes beside the workspace name whom a teardown ends, and a test of our user can write."""
    with subprocess.Popen(["sleep", "600"]) as stranger:
        script = f"""
        cd $TEO_ARTIFACTS_DIR/../..
        group={tmp_path}/$(cat workspace/name)
        mkdir $group && echo {stranger.pid} > $group/cgroup.procs
        printf %s $group > cgroup
        kill -STOP $PPID
        echo {stranger.pid} {tree.started_at(stranger.pid)} > guardian
        kill -9 $PPID
        """

        async def play() -> None:
            attempt = local.attempt("sh", "-c", script)
            handle = await local.adapter.provision(attempt)
            place = place_of(handle)
            (place.workspace / "name").write_text(f"teo-{place.digest[:32]}")
            lease = Lease(until=asyncio.get_running_loop().time() + 60)
            with pytest.raises(AdapterError) as caught:
                await local.adapter.run(attempt, handle, on_lines=local.on_lines, lease=lease)
            assert caught.value.code == "guardian_lost"
            await local.adapter.teardown(handle)

        asyncio.run(play())
        assert stranger.poll() is None
        stranger.kill()


def test_a_note_that_names_the_first_process_signals_nobody(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the machine is below it."""
    monkeypatch.setattr(tree, "send", lambda *_: pytest.fail("somebody is signalled"))
    place = place_for(local.state, local.attempt("true").id)
    place.make()
    place.pidfile.write_text(f"1 {tree.started_at(1)}\n")
    assert orphans.end_orphans(place) == 0


def test_a_cut_off_run_ends_when_it_is_cancelled_under_attack(local: Local, tmp_path: Path) -> None:
    """A cancel that comes while the guardian is being killed still leaves nothing."""

    async def play() -> None:
        attempt = local.attempt(
            sys.executable, "-c", RUNAWAY, str(tmp_path / "pid"), "parent", "exec", "lower"
        )
        running = asyncio.create_task(local.run(attempt))
        async with asyncio.timeout(DEADLINE_S):
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - another process writes it.
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(play())
    wait_for(lambda: (tmp_path / "pid").read_text() != "", "the daemon has said who it is")
    assert not is_alive(int((tmp_path / "pid").read_text()))
