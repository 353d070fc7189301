"""What a healthy attempt may take at most, and that the scheduler waits longer than that."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Attempt, Collected, Exit, Handle
from events.reports import AttemptEnded
from events.shared import StepPolicy
from processors.artifacts.store import StoredArtifact
from processors.scheduler.deadlines import (
    ATTEMPT_GRACE_S,
    STEP_CANCEL_S,
    STEP_S_DEFAULT,
    attempt_limit_s,
)
from processors.worker.attempt import SHIP_END_S
from processors.worker.settings import LogLimits, StepLimits, WorkerSettings
from tests.unit.processors.worker.lab import Lab, ScriptedAdapter, attempt, play

EARLY_S = 0.01
"""How long before each limit the slowest healthy call ends."""
TIMEOUT_S = 60.0
STEPS = StepLimits()


def policy(step: str, timeout_s: float | None, retries: int, backoff_s: float) -> StepPolicy:
    return StepPolicy(step=step, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)


BENCHES = [
    (),
    (policy("provision", 1.0, 10, 0.0),),
    (policy("provision", 1.0, 10, 0.0), policy("teardown", 1.0, 10, 0.0)),
    (policy("provision", 300.0, 1, 50.0), policy("teardown", 100.0, 1, 20.0)),
    (policy("collect", None, 2, 10.0), policy("teardown", None, 3, 5.0)),
]


def test_the_scheduler_grants_more_than_all_limits_of_a_worker_together() -> None:
    settings = WorkerSettings(worker="w", pool="p", state_dir=Path(), version="1")
    report_s = settings.deadline_s  # Without a word taken for so long, the life is over.
    around_s = (
        (settings.leftovers_s + STEPS.cancel_s)  # What lives before left is cleared first.
        + 2 * (report_s + STEPS.cancel_s)  # That the handle is known, and that it has ended.
        + (STEPS.provision_s + STEPS.cancel_s)
        + (STEPS.grace_s + STEPS.kill_s + STEPS.kill_s)  # What a run gets beyond its timeout.
        + (LogLimits().flush_s + SHIP_END_S)
        + (STEPS.upload_s + STEPS.cancel_s)  # The log.
        + (STEPS.collect_s + STEPS.cancel_s)
        + (STEPS.upload_s + STEPS.cancel_s)  # What was collected.
        + (STEPS.teardown_s + STEPS.cancel_s)
    )
    assert around_s < ATTEMPT_GRACE_S


def test_the_scheduler_knows_the_limits_a_worker_keeps_by_itself() -> None:
    assert max(STEPS.provision_s, STEPS.collect_s, STEPS.teardown_s) <= STEP_S_DEFAULT
    assert STEPS.cancel_s <= STEP_CANCEL_S


class SlowAdapter(ScriptedAdapter):
    """Needs all the time there is: every try but the last is over its limit, and slow to end."""

    def __init__(self, steps: Sequence[StepPolicy]) -> None:
        super().__init__()
        self._tries = {each.step: each.retries for each in steps}
        self._limits = {
            "provision": STEPS.provision_s,
            "collect": STEPS.collect_s,
            "teardown": STEPS.teardown_s,
        } | {each.step: each.timeout_s for each in steps if each.timeout_s is not None}
        self._failed = {"provision": 0, "collect": 0, "teardown": 0}

    async def _play(self, step: str) -> None:
        self.calls.append(step)
        if self._failed[step] == self._tries.get(step, 0):
            self._failed[step] = 0
            await asyncio.sleep(self._limits[step] - EARLY_S)
            return
        self._failed[step] += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(STEPS.cancel_s - EARLY_S)
            raise

    async def provision(self, attempt: Attempt) -> Handle:
        await self._play("provision")
        return self.handle_for(attempt.id, attempt.bench)

    async def run(self, attempt: Attempt, handle: Handle, **_: Any) -> Exit:
        await asyncio.sleep(attempt.timeout_s + attempt.grace_s + STEPS.kill_s - EARLY_S)
        return Exit(ended="exited", code=0)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        await self._play("collect")
        return await super().collect(attempt, handle)

    async def teardown(self, handle: Handle) -> None:
        await self._play("teardown")


class SlowStore:
    """Takes as long for a file as an upload may."""

    async def put(self, source: Path | bytes, key: str) -> StoredArtifact:
        await asyncio.sleep(STEPS.upload_s - EARLY_S)
        return StoredArtifact(uri=f"x:{key}", size_bytes=1, sha256="0" * 64)


async def longest(root: Path, steps: tuple[StepPolicy, ...]) -> tuple[AttemptEnded, float]:
    """Return how the slowest healthy attempt ends, and after how many seconds."""
    lab = Lab(root)
    lab.adapters = {"scripted": SlowAdapter(steps)}
    lab.store = SlowStore()  # type: ignore[assignment]
    worker = lab.make()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await lab.registered()
        begun_s = loop.time()
        await lab.tell(attempt(steps=steps, timeout_s=TIMEOUT_S))
        await lab.until(worker.running)
        while worker.running():  # noqa: ASYNC110 - polled in virtual time.
            await asyncio.sleep(1.0)
        took_s = loop.time() - begun_s
        worker.stop()
    return lab.reports(AttemptEnded)[0], took_s


@pytest.mark.parametrize("steps", BENCHES)
def test_the_slowest_healthy_attempt_is_not_overdue(
    tmp_path: Path, steps: tuple[StepPolicy, ...]
) -> None:
    async def scene() -> None:
        ended, took_s = await longest(tmp_path, steps)
        assert (ended.verdict, ended.teardown_error) == ("passed", "")
        assert took_s < attempt_limit_s(TIMEOUT_S, steps)

    play(scene)
