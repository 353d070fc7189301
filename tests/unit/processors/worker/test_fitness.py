"""A worker whose state folder is full, gone or hangs says so, runs nothing, and comes back."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from events.reports import (
    AttemptEnded,
    StepStarted,
    WorkerFaulty,
    WorkerRecovered,
    WorkerStarted,
)
from processors.worker import state_dir
from processors.worker.faults import NO_THREAD, fault_of
from processors.worker.state_dir import StateDir, StateUnreadable
from tests.unit.processors.worker.lab import Lab, ScriptedAdapter, attempt, in_lab, names

FITNESS = (WorkerFaulty, WorkerRecovered, AttemptEnded)


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dir, "ROOM_BYTES_MIN", 1 << 70)


def test_a_folder_that_is_full_is_said_once_and_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab) -> None:
        with monkeypatch.context() as patch:
            full(patch)
            await asyncio.sleep(30)
            await lab.tell(attempt())
            ended = await lab.ended()
            assert (ended.verdict, ended.code, ended.fault) == ("error", "state_unusable", "worker")
            assert ended.is_retriable
            assert "is full: free some" in ended.reason
        await lab.until(lambda: lab.reports(WorkerRecovered))
        await lab.tell(attempt("exe-2"))
        assert (await lab.ended("exe-2")).verdict == "passed"

    lab = in_lab(tmp_path, scene)
    assert names(lab.reports(*FITNESS)) == [
        "WorkerFaulty",
        "WorkerFaulty",  # Said again to whoever gives it attempts all the same.
        "AttemptEnded",
        "WorkerRecovered",
        "AttemptEnded",
    ]
    assert all(each.execution_id == "exe-2" for each in lab.reports(StepStarted))


def test_a_folder_that_is_gone_when_an_attempt_begins_ends_it_unbegun(tmp_path: Path) -> None:
    adapter = ScriptedAdapter()

    async def scene(lab: Lab) -> None:
        (tmp_path / "state").rename(tmp_path / "away")
        await lab.tell(attempt())
        ended = await lab.ended()
        assert (ended.code, ended.fault, ended.teardown_error) == ("state_unusable", "worker", "")
        assert not (tmp_path / "state").exists(), "what somebody took away is not made anew"
        (tmp_path / "state").mkdir()
        await lab.until(lambda: lab.reports(WorkerRecovered))
        assert (tmp_path / "state" / "epoch").read_text() == "1", "it came back empty"
        await lab.tell(attempt("exe-2"))
        assert (await lab.ended("exe-2")).verdict == "passed"

    lab = in_lab(tmp_path, scene, adapter)
    assert names(lab.reports(*FITNESS))[:2] == ["WorkerFaulty", "AttemptEnded"]
    assert adapter.calls[:1] == ["provision"], "of the second"


def test_a_fault_of_its_own_has_it_look_at_its_folder_before_it_says_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab) -> None:
        full(monkeypatch)
        await lab.tell(attempt(out_of="provision", errno=errno.ENOSPC))
        ended = await lab.ended()
        assert (ended.code, ended.fault) == ("worker_exhausted", "worker")

    lab = in_lab(tmp_path, scene)
    assert names(lab.reports(*FITNESS)) == ["WorkerFaulty", "AttemptEnded"]


def test_a_disk_of_the_bench_that_is_full_is_the_bench_s_fault(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(out_of="provision", errno=errno.ENOSPC))
        ended = await lab.ended()
        assert (ended.code, ended.fault) == ("provision_failed", "bench")

    lab = in_lab(tmp_path, scene)
    assert not lab.reports(WorkerFaulty)


@pytest.mark.parametrize("config", [{"exit": 1}, {"signal": 9}])
def test_a_test_that_failed_on_a_folder_that_was_taken_away_is_the_worker_s_error(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """Nobody can tell whether it failed of that, so it is tried again."""

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt("exe-1", run_s=10.0, **config))
        await lab.until(lambda: lab.adapter.alive)
        (tmp_path / "state").rename(tmp_path / "away")
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.fault) == ("error", "worker_exhausted", "worker")
        assert ended.is_retriable
        assert "bring it back" in ended.reason
        assert "there the test ended so: " in ended.reason
        (tmp_path / "away").rename(tmp_path / "state")
        await lab.until(lambda: lab.reports(WorkerRecovered))
        await lab.tell(attempt("exe-2", fence=8, exit=1))
        assert (await lab.ended("exe-2")).verdict == "failed"

    in_lab(tmp_path, scene)


def test_a_folder_that_hangs_is_no_reason_to_be_silent(tmp_path: Path) -> None:
    """A dead mount holds whoever touches it: the probe alone, and one of it."""
    stuck, probes = threading.Event(), []

    async def hanging(work: Any) -> Any:
        probes.append(work)
        while not stuck.is_set():  # noqa: ASYNC110 - in virtual time.
            await asyncio.sleep(1)
        return work()

    async def scene(lab: Lab) -> None:
        lab.worker._life._fitness._offload = hanging  # type: ignore[union-attr]
        await lab.until(lambda: lab.reports(WorkerFaulty))
        assert "does not answer within 5 s" in lab.reports(WorkerFaulty)[0].reason
        await asyncio.sleep(60)
        assert len(probes) == 1
        assert lab.worker.is_registered, "it heartbeats all the while"
        stuck.set()
        await lab.until(lambda: lab.reports(WorkerRecovered))

    in_lab(tmp_path, scene)


def test_a_machine_without_threads_is_the_worker_s_fault_and_ends_no_life(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.until(lambda: lab.worker.is_registered)
        life = lab.worker._life
        assert life is not None
        offload = life._fitness._offload

        async def refuse(work: Any) -> Any:
            raise RuntimeError(NO_THREAD)

        life._fitness._offload = refuse
        await lab.until(lambda: lab.reports(WorkerFaulty))
        assert "has run out: can't start new thread" in lab.reports(WorkerFaulty)[0].reason
        life._fitness._offload = offload
        await lab.until(lambda: lab.reports(WorkerRecovered))
        assert lab.worker._life is life

    in_lab(tmp_path, scene)
    fault = fault_of("provision", RuntimeError(NO_THREAD), adapter="local")
    assert (fault.whose, fault.code) == ("worker", "worker_exhausted")
    assert fault_of("provision", RuntimeError("another bug"), adapter="local").whose == "bench"


def test_two_that_wait_for_one_probe_both_have_its_answer(tmp_path: Path) -> None:
    """Attempts look at the folder before they say their ends, and two may end at once."""

    async def scene(lab: Lab) -> None:
        await lab.until(lambda: lab.worker.is_registered)
        fitness = lab.worker._life._fitness  # type: ignore[union-attr]
        probes: list[Any] = []

        async def slow(work: Any) -> Any:
            probes.append(work)
            await asyncio.sleep(1)
            return work()

        await asyncio.sleep(1)
        fitness._offload = slow
        await asyncio.gather(fitness.look(), fitness.look(), fitness.look())
        assert len(probes) == 1

    in_lab(tmp_path, scene)


def test_a_folder_that_is_gone_between_two_lives_is_waited_for(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        await lab.ended()
        lab.log.is_away = True
        await lab.until(lambda: not lab.worker.is_registered)
        (tmp_path / "state").rename(tmp_path / "away")
        lab.log.is_away = False
        await asyncio.sleep(60)
        assert not lab.worker.is_registered
        assert not (tmp_path / "state").exists(), "what somebody took away is not made anew"
        (tmp_path / "state").mkdir()
        await lab.until(lambda: lab.worker.is_registered)
        await lab.tell(attempt("exe-2", fence=8))
        assert (await lab.ended("exe-2")).verdict == "passed"

    in_lab(tmp_path, scene)


def test_what_it_can_run_is_said_once_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that nobody would believe it, and it is said once."""

    async def scene(lab: Lab) -> None:
        lab.log.is_away, lab.log.is_accepting = True, False
        await lab.until(lambda: not lab.worker.is_registered)
        count = len(lab.reports(WorkerStarted))
        lab.log.is_away = False
        await lab.until(lambda: len(lab.reports(WorkerStarted)) > count)
        full(monkeypatch)
        await asyncio.sleep(20)
        assert not lab.reports(WorkerFaulty)
        lab.log.is_accepting = True
        await lab.until(lambda: lab.worker.is_registered)
        await lab.until(lambda: lab.reports(WorkerFaulty))

    in_lab(tmp_path, scene)


def test_a_probe_writes_where_attempts_write(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.probe()
    (tmp_path / "state" / "handles").rename(tmp_path / "moved")
    state.probe()
    assert (tmp_path / "state" / "handles").is_dir()
    (tmp_path / "state" / "probe").unlink()
    (tmp_path / "state" / "probe").mkdir()
    with pytest.raises(StateUnreadable, match="free or repair the disk"):
        state.probe()


@pytest.mark.parametrize(
    ("config", "verdict", "code", "fault"),
    [
        ({"break": "provision"}, "error", "provision_failed", "bench"),
        (
            {"break": "provision", "fault": "asker", "code": "glob_refused"},
            "failed",
            "glob_refused",
            "asker",
        ),
        (
            {"break": "run", "fault": "worker", "code": "no_guardian"},
            "error",
            "no_guardian",
            "worker",
        ),
        ({"break": "run", "fault": "network", "code": "far"}, "error", "far", "network"),
        ({"break": "run", "fault": "nonsense"}, "error", "run_failed", "bench"),
        ({"break": "run", "fault": "test", "code": "hostile"}, "failed", "hostile", "test"),
        (
            {"break": "collect", "fault": "test", "code": "workspace_removed"},
            "passed",
            "passed",
            "",
        ),
        (
            {"break": "collect", "fault": "test", "code": "workspace_removed", "junit": "<a/>"},
            "failed",
            "report_missing",
            "test",
        ),
        ({"break": "collect", "fault": "asker", "code": "glob"}, "failed", "glob", "asker"),
        ({"bug": "provision"}, "error", "provision_failed", "bench"),
        ({"out_of": "run", "errno": errno.EMFILE}, "error", "worker_exhausted", "worker"),
        ({"out_of": "run", "errno": errno.EAGAIN}, "error", "worker_exhausted", "worker"),
        ({"out_of": "run", "errno": errno.ENOENT}, "error", "run_failed", "bench"),
        ({"exit": 3}, "failed", "exit_code", "test"),
        ({"cannot_start": True}, "failed", "cannot_start", "test"),
        ({"run_s": 99.0, "timeout_s": 5.0}, "timed_out", "timeout", "test"),
    ],
)
def test_an_end_says_whose_fault_it_was(
    tmp_path: Path, config: dict[str, Any], verdict: str, code: str, fault: str
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**config))
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.fault) == (verdict, code, fault)
        assert not (ended.is_retriable and fault in ("asker", "test"))
        if "bug" in config:
            assert "adapter 'scripted' raised it" in ended.reason
        if code == "passed":
            assert "collect broke" in ended.reason, "a note, and the exit code stands"

    in_lab(tmp_path, scene)


def test_a_machine_that_can_start_no_thread_suspends_its_worker_and_ends_nothing(
    tmp_path: Path,
) -> None:
    """A test may fill the machine with processes: the worker is there when they are gone."""
    is_full = True

    async def crowded(work: Any) -> Any:
        if is_full:
            raise RuntimeError("can't start new thread")
        return work()

    async def scene(lab: Lab) -> None:
        nonlocal is_full
        lab.worker._life._fitness._offload = crowded  # type: ignore[union-attr]
        await lab.until(lambda: lab.reports(WorkerFaulty))
        assert "can't start new thread" in lab.reports(WorkerFaulty)[0].reason
        is_full = False
        await lab.until(lambda: lab.reports(WorkerRecovered))
        await lab.tell(attempt())
        assert (await lab.ended()).verdict == "passed"

    in_lab(tmp_path, scene)
