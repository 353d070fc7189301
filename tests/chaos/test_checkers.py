"""Each checker of the chaos run lets a right history pass, and objects to a wrong one."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from events import facts
from events.message import EventMessage, Message
from events.shared import Artifact, EventMeta, RunSpec, Totals
from processors.artifacts.files import FileStore
from tests.chaos import evidence
from tests.chaos.checkers import (
    Drive,
    Sighting,
    acknowledged_commands_have_one_outcome,
    are_equal,
    artifacts_are_what_they_were,
    attempts_run_once,
    drives_were_assigned,
    executions_end_in_one_verdict,
    no_process_outlives_its_attempt,
    no_two_tests_on_a_bench,
    one_key_is_one_command,
)
from tests.chaos.clients import DRIVE, Ack
from tests.sim.checkers import Violated

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NO_CASES = Totals(passed=0, failed=0, errors=0, skipped=0)
RUN = RunSpec(command=("true",), env={}, timeout_s=1.0, junit=(), artifacts=())
CONTENT = b"what the test wrote"
ARTIFACT = Artifact(
    path="artifacts/data.bin",
    kind="artifact",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    uri="teo-file:x",
)


def event(body: facts.Event, command_id: str = "", **meta: object) -> EventMessage:
    base = EventMeta(
        event_id="e",
        pool="lab",
        seq=0,
        index=0,
        count=1,
        occurred_at=NOON,
        actor="ann",
        causation_id=command_id,
        correlation_id="",
        traceparent="",
        input_topic="t",
        input_offset=0,
        request_hash="h" if command_id else "",
    )
    return Message(replace(base, **meta), body)  # type: ignore[arg-type]


def submitted(execution_id: str = "exe-1", command_id: str = "c1") -> EventMessage:
    body = facts.ExecutionSubmitted(
        execution_id=execution_id, owner="ann", selector="", priority=0, retries=0, run=RUN
    )
    return event(body, command_id)


def rejected(command_id: str, code: str) -> EventMessage:
    body = facts.CommandRejected(
        command="SubmitExecution", code=code, reason="", subject_id="exe-1"
    )
    return event(body, command_id)


def finished(execution_id: str = "exe-1") -> EventMessage:
    body = facts.ExecutionFinished(
        execution_id=execution_id,
        verdict="passed",
        code="",
        reason="",
        attempts=1,
        totals=NO_CASES,
    )
    return event(body)


def attempt_finished(*artifacts: Artifact) -> EventMessage:
    body = facts.AttemptFinished(
        execution_id="exe-1",
        attempt=1,
        bench="b1",
        worker="w1",
        verdict="passed",
        code="",
        reason="",
        totals=NO_CASES,
        artifacts=artifacts,
        is_retriable=False,
    )
    return event(body)


def assigned(bench: str = "b1", fence: int = 1) -> EventMessage:
    body = facts.ExecutionAssigned(
        execution_id="exe-1", attempt=1, bench=bench, fence=fence, worker="w1", epoch=1
    )
    return event(body)


def drive(**changes: object) -> Drive:
    base = Drive(
        bench="lab.b1",
        execution_id="exe-1",
        attempt=1,
        fence=1,
        pid=7,
        start_s=10.0,
        last_s=11.0,
        sha256=ARTIFACT.sha256,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def ack(**changes: object) -> Ack:
    base = Ack(command_id="c1", ask="POST /v1/executions", status=201, code="")
    return replace(base, **changes)  # type: ignore[arg-type]


def objects(check: Callable[[], None]) -> None:
    with pytest.raises(Violated):
        check()


NEXT = drive(execution_id="exe-2", fence=2, start_s=11.0, last_s=12.0)


KEYED = {"key": "k", "actor": "ann", "pool": "lab-a"}


def test_one_key_in_one_pool_names_one_command() -> None:
    elsewhere = ack(command_id="c2", key="k", actor="ann", pool="lab-b")
    one_key_is_one_command([ack(**KEYED), ack(**KEYED), elsewhere, ack(command_id="c3")])
    objects(lambda: one_key_is_one_command([ack(**KEYED), ack(**{**KEYED, "command_id": "c2"})]))


def test_one_command_for_a_key_in_two_pools_is_seen() -> None:
    objects(lambda: one_key_is_one_command([ack(**KEYED), ack(**{**KEYED, "pool": "lab-b"})]))


def test_tests_one_after_the_other_are_right() -> None:
    no_two_tests_on_a_bench([NEXT, drive()])
    no_two_tests_on_a_bench([drive(), drive(bench="lab.b2", start_s=10.5)])


@pytest.mark.parametrize(
    "second",
    [
        replace(NEXT, start_s=10.9),
        replace(NEXT, fence=1),
        replace(NEXT, clash="exe-1.1.1"),
    ],
    ids=["overlap", "fence", "lock"],
)
def test_two_tests_on_a_bench_are_seen(second: Drive) -> None:
    objects(lambda: no_two_tests_on_a_bench([drive(), second]))


def test_an_attempt_started_twice_is_seen() -> None:
    attempts_run_once([drive(), NEXT])
    objects(lambda: attempts_run_once([drive(), drive(bench="lab.b2", fence=2)]))


@pytest.mark.parametrize("journal", [[], [assigned(bench="b2")], [assigned(fence=2)]])
def test_a_test_that_nobody_assigned_is_seen(journal: Sequence[EventMessage]) -> None:
    drives_were_assigned([drive()], [assigned()])
    objects(lambda: drives_were_assigned([drive()], journal))


@pytest.mark.parametrize(
    ("told", "journal"),
    [
        (ack(), []),
        (ack(), [submitted(), submitted("exe-2")]),
        (ack(), [rejected("c1", "no_matching_bench")]),
        (ack(status=409, code="no_matching_bench"), [submitted()]),
        (ack(status=409, code="no_matching_bench"), [rejected("c1", "not_owner")]),
        (ack(status=202), []),
    ],
    ids=["lost", "twice", "refused", "accepted", "other code", "202 lost"],
)
def test_an_answer_that_the_journal_contradicts_is_seen(
    told: Ack, journal: Sequence[EventMessage]
) -> None:
    objects(lambda: acknowledged_commands_have_one_outcome([told], journal))


def test_answers_that_the_journal_confirms_are_right() -> None:
    acks = [ack(), ack(status=202), ack(command_id="c2", status=409, code="not_owner")]
    journal = [submitted(), rejected("c2", "not_owner"), finished()]
    acknowledged_commands_have_one_outcome(acks, journal)


def test_executions_without_one_verdict_are_seen() -> None:
    executions_end_in_one_verdict(["exe-1"], [submitted(), finished()])
    objects(lambda: executions_end_in_one_verdict([], [submitted()]))
    objects(lambda: executions_end_in_one_verdict(["exe-1"], []))
    objects(lambda: executions_end_in_one_verdict([], [submitted(), finished(), finished()]))


def test_a_process_that_outlives_its_attempt_is_seen() -> None:
    def seen(after_s: float) -> Sighting:
        at = NOON + timedelta(seconds=after_s)
        return Sighting(execution_id="exe-1", attempt=1, pid=7, at_s=at.timestamp())

    journal = [attempt_finished()]
    no_process_outlives_its_attempt([seen(-5.0), seen(0.5)], journal)
    objects(lambda: no_process_outlives_its_attempt([seen(60.0)], journal))


def test_an_artifact_that_changed_is_seen(tmp_path: Path) -> None:
    put = asyncio.run(FileStore(tmp_path).put(CONTENT, "lab/exe-1/data.bin"))
    journal = [attempt_finished(replace(ARTIFACT, uri=put.uri))]
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]

    def check(wrote: str = ARTIFACT.sha256) -> None:
        store = asyncio.run(evidence.stored(tmp_path, journal))
        artifacts_are_what_they_were(journal, store, [drive(sha256=wrote)])

    check()
    check(wrote="")  # It was killed before it could mark what it wrote.
    objects(lambda: check(wrote="0" * 64))
    for other in (CONTENT[:-1] + b"?", CONTENT + b"?", CONTENT[:-1]):
        file.chmod(0o600)
        file.write_bytes(other)
        objects(check)
    file.unlink()
    objects(check)


def test_projections_that_differ_are_seen() -> None:
    are_equal({"api-1": "x", "fresh": "x"})
    objects(lambda: are_equal({"api-1": "x", "fresh": "y"}))


@contextmanager
def driving(marks: Path, execution_id: str, *flags: str) -> Iterator["subprocess.Popen[bytes]"]:
    env = {
        "TEO_EXECUTION_ID": execution_id,
        "TEO_ATTEMPT": "1",
        "TEO_FENCE": "1",
        "TEO_BENCH": "b1",
        "TEO_ARTIFACTS_DIR": str(marks),
        "TEO_CHAOS": str(marks),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-I", "-S", str(DRIVE), str(marks), "lab", *flags]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    with process.stdout as output:
        try:
            assert output.readline() == b"driving lab.b1\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_real_tests_that_share_a_bench_are_seen_while_and_after_they_do(tmp_path: Path) -> None:
    with driving(tmp_path, "exe-1", "--seconds", "60"):
        assert {each.execution_id for each in evidence.look(tmp_path)} == {"exe-1"}
        with driving(tmp_path, "exe-2", "--seconds", "60"):
            assert {each.execution_id for each in evidence.look(tmp_path)} == {"exe-1", "exe-2"}
    assert not list(evidence.look(tmp_path))
    drives = evidence.drives(tmp_path)
    assert {each.execution_id: each.clash for each in drives} == {"exe-1": "", "exe-2": "exe-1.1.1"}
    objects(lambda: no_two_tests_on_a_bench(drives))
    without_lock = [replace(each, clash="", fence=n) for n, each in enumerate(drives)]
    objects(lambda: no_two_tests_on_a_bench(without_lock))


def test_a_child_that_a_killed_test_leaves_still_holds_the_bench(tmp_path: Path) -> None:
    children: list[Sighting] = []
    try:
        with driving(tmp_path, "exe-1", "--seconds", "60", "--child"):
            pass
        children = list(evidence.look(tmp_path))
        assert [each.execution_id for each in children] == ["exe-1"], "the child is seen"
        with driving(tmp_path, "exe-2", "--seconds", "60"):
            pass
    finally:
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
    objects(lambda: no_two_tests_on_a_bench(evidence.drives(tmp_path)))
