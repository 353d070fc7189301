"""A whole worker against a log in memory, with the scheduler played by hand: its attempts."""

import asyncio
import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import (
    Handle,
)
from events.logs import LogBatch
from events.reports import (
    AttemptEnded,
    ResultsCollected,
    StepStarted,
    WorkerDraining,
    WorkerStopped,
)
from events.shared import StepPolicy
from events.tasks import LeaveWhenIdle
from tests.unit.processors.worker.lab import (
    TOPICS,
    TRACEPARENT,
    Lab,
    attempt,
    in_lab,
    names,
    stop,
)

JUNIT = b"""<testsuite name="s"><testcase classname="c" name="ok" time="0.1"/>
<testcase classname="c" name="bad"><failure message="1 != 2">boom</failure></testcase>
</testsuite>"""
ALL = "provision run collect teardown"
EARLY = "provision teardown"
JUNIT_GOOD = b'<testsuite name="s"><testcase name="ok"/></testsuite>'
STEPS = [f"StepStarted:{step}" for step in ("provision", "run", "collect")]


def test_a_whole_attempt_is_reported_in_order(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        def known(handle: str) -> bool:
            return any(report.handle == handle for report in lab.reports(StepStarted))

        lab.adapter.is_handle_known = known
        task = attempt(
            lines=["one", "token hunter2-secret!", "thr\xe9e"], junit=JUNIT_GOOD.decode(), run_s=5
        )
        await lab.tell(task)
        await lab.tell(task)  # A repeat is no second run.
        await lab.until(lambda: lab.worker.running())
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.exit_code) == ("passed", "passed", 0)
        assert (ended.fence, ended.totals.passed, ended.teardown_error) == (7, 1, "")
        kinds = {each.path: each for each in ended.artifacts}
        assert sorted((p, a.kind) for p, a in kinds.items()) == [
            ("log.txt", "log"), ("out/a.bin", "artifact"), ("r.xml", "junit"),
        ]  # fmt: skip
        whole_log = b"".join([chunk async for chunk in lab.store.open(kinds["log.txt"].uri)])
        assert whole_log.decode() == "one\ntoken ***!\nthr\xe9e\nto stderr\n"
        assert hashlib.sha256(whole_log).hexdigest() == kinds["log.txt"].sha256
        await lab.until(lambda: not lab.worker.running())

    lab = in_lab(tmp_path, scene)
    expected = ["WorkerStarted", *STEPS, "ResultsCollected", "StepStarted:teardown", "AttemptEnded"]
    assert names(lab.reports()) == [*expected, "WorkerDraining", "WorkerStopped"]
    assert lab.adapter.calls == ["provision", "run", "collect", "teardown"]
    assert lab.adapter.handles_known == [True], "the log knew the handle before anything existed"
    metas = [message.meta for message in lab.log.read(TOPICS.reports)]
    assert {(meta.worker, meta.epoch, meta.pool) for meta in metas} == {("w-1", 1, "lab")}
    ended_meta = next(
        m.meta for m in lab.log.read(TOPICS.reports) if isinstance(m.body, AttemptEnded)
    )
    assert ended_meta.correlation_id == "corr"
    assert ended_meta.traceparent[3:35] == TRACEPARENT[3:35]
    batches = [each for each in lab.log.read(TOPICS.logs) if isinstance(each, LogBatch)]
    lines = [line for batch in batches for line in batch.lines]
    assert lines == ["one", "token ***!", "thr\xe9e", "to stderr"]
    assert (batches[0].first_line, batches[0].stderr_lines) == (1, (3,))
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]


def test_the_test_finds_its_environment(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt())
        await lab.ended()

    env = in_lab(tmp_path, scene).adapter.envs[0]
    assert env["TEO_EXECUTION_ID"] == "exe-1"
    assert env["TEO_FENCE"] == "7", "a user cannot override ours"
    assert env["TEO_BENCH_LABELS"] == "board=rpi4,site=muc"
    assert (env["TEO_ATTEMPT"], env["TEO_BENCH"], env["MODE"]) == ("1", "b-1", "fast")
    assert env["TRACEPARENT"].split("-")[1] == TRACEPARENT.split("-")[1]
    assert datetime.fromisoformat(env["TEO_DEADLINE"]).tzinfo is not None


@pytest.mark.parametrize(
    ("config", "verdict", "code", "is_retriable", "calls"),
    [
        ({"exit": 3}, "failed", "exit_code", False, ALL),
        ({"exit": None, "signal": 11}, "failed", "signal", False, ALL),
        ({"junit": JUNIT.decode()}, "failed", "cases_failed", False, ALL),
        ({"junit": "<not xml"}, "failed", "report_unreadable", False, ALL),
        ({"cannot_start": True}, "failed", "cannot_start", False, "provision collect teardown"),
        ({"break": "provision"}, "error", "provision_failed", True, EARLY),
        ({"break": "provision", "retriable": False}, "error", "provision_failed", False, EARLY),
        ({"bug": "run"}, "error", "run_failed", True, ALL),
        ({"break": "collect"}, "error", "collect_failed", True, ALL),
        ({"break": "collect", "exit": 1}, "failed", "exit_code", False, ALL),
        ({"hang": "provision"}, "error", "provision_timeout", True, EARLY),
        ({"hang": "collect"}, "error", "collect_timeout", True, ALL),
        ({"hang": "run", "timeout_s": 5.0}, "timed_out", "timeout", False, ALL),
        ({"run_s": 50, "timeout_s": 5.0}, "timed_out", "timeout", False, ALL),
        ({"run_s": 50, "idle_timeout_s": 2.0}, "timed_out", "idle_timeout", False, ALL),
    ],
)  # fmt: skip
def test_how_it_ends(
    tmp_path: Path, config: dict[str, Any], verdict: str, code: str, is_retriable: bool, calls: str
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**config))
        await lab.until(lambda: lab.reports(AttemptEnded), limit_s=500)
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.is_retriable) == (verdict, code, is_retriable)
        assert ended.teardown_error == ""
        assert lab.adapter.calls == calls.split()
        if config.get("junit") == "<not xml":
            assert "r.xml" in ended.reason
        if config.get("junit", "").startswith("<testsuite"):
            parts = lab.reports(ResultsCollected)
            assert [case.status for case in parts[0].cases] == ["passed", "failed"]
            assert parts[0].cases[1].details == "boom"

    in_lab(tmp_path, scene)


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        ("provision", "provision teardown provision run collect teardown"),
        ("collect", "provision run collect collect teardown"),
    ],
)
def test_a_step_that_fails_is_tried_again_on_its_bench(
    tmp_path: Path, step: str, calls: str
) -> None:
    policy = StepPolicy(step=step, timeout_s=5.0, retries=1, backoff_s=2.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**{"break": step, "break_times": 1, "steps": (policy,)}))
        ended = await lab.ended()
        assert (ended.verdict, ended.code) == ("passed", "passed")
        assert f"{step} worked at try 2" in ended.reason
        assert lab.adapter.calls == calls.split()

    in_lab(tmp_path, scene)


def test_a_step_whose_tries_are_used_up_is_the_labs_error(tmp_path: Path) -> None:
    policy = StepPolicy(step="provision", timeout_s=5.0, retries=2, backoff_s=0.5)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(hang="provision", steps=(policy,)))
        ended = await lab.ended()
        assert (ended.verdict, ended.code) == ("error", "provision_timeout")
        assert lab.adapter.calls == ["provision", "teardown"] * 3

    in_lab(tmp_path, scene)


def test_a_cancel_between_two_tries_ends_the_attempt(tmp_path: Path) -> None:
    policy = StepPolicy(step="provision", timeout_s=5.0, retries=5, backoff_s=300.0)

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**{"break": "provision", "steps": (policy,)}))
        await lab.until(lambda: lab.adapter.calls == ["provision", "teardown"])
        await lab.tell(stop())
        assert (await lab.ended()).verdict == "cancelled"

    in_lab(tmp_path, scene)


def test_a_worker_told_to_leave_ends_what_it_runs_and_goes(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(run_s=5))
        await lab.until(lambda: lab.adapter.alive)
        await lab.tell(LeaveWhenIdle(reason="drained by anna"))
        assert (await lab.ended()).verdict == "passed"
        await lab.until(lambda: lab.reports(WorkerStopped))

    lab = in_lab(tmp_path, scene)
    assert [each.reason for each in lab.reports(WorkerDraining)] == ["drained by anna"]


def test_a_refused_file_is_named(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(climb=True))
        ended = await lab.ended()
        assert ended.verdict == "passed"
        assert "'../x' not kept: it is outside the workspace" in ended.reason

    in_lab(tmp_path, scene)


@pytest.mark.parametrize(
    "config", [{"run_s": 50}, {"hang": "provision"}, {"run_s": 50, "stubborn": True}]
)
@pytest.mark.parametrize("fence", [7, 0])
def test_cancel_ends_it_and_cleans_up(tmp_path: Path, config: dict[str, Any], fence: int) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(**config))
        await lab.until(lambda: lab.adapter.calls)
        await lab.tell(stop(fence=6))
        await asyncio.sleep(1)
        assert not lab.reports(AttemptEnded), "a stop of another grant is none of ours"
        await lab.tell(stop(fence=fence))
        ended = await lab.ended()
        assert (ended.verdict, ended.code, ended.reason) == (
            "cancelled",
            "cancelled",
            "asked by anna",
        )
        assert ended.exit_code is None
        assert lab.adapter.calls[-1] == "teardown"
        assert ("collect" in lab.adapter.calls) == ("run" in lab.adapter.calls)

    in_lab(tmp_path, scene)


def test_a_result_stands_when_the_cancel_comes_too_late(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(hang="collect"))
        await lab.until(lambda: "collect" in lab.adapter.calls)
        await lab.tell(stop())
        await lab.until(lambda: lab.reports(AttemptEnded), limit_s=500)
        assert lab.reports(AttemptEnded)[0].code == "collect_timeout"

    in_lab(tmp_path, scene)


def test_teardown_that_fails_is_said(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.adapter.handle_for = lambda *_: Handle('{"id": "broken"}')  # type: ignore[method-assign]
        await lab.tell(attempt())
        ended = await lab.ended()
        assert (ended.verdict, ended.teardown_error) == ("passed", "AdapterError: still powered")

    in_lab(tmp_path, scene)
