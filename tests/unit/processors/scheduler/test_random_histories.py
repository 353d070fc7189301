"""Random histories (duplicates, stale reports, lost workers, late time), judged by the checkers."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from events import tasks
from events.commands import (
    CancelExecution,
    ExtendReservation,
    QuarantineBench,
    ReleaseReservation,
    RestoreBench,
    ResumeWorker,
)
from events.reports import (
    AttemptEnded,
    AttemptUnknown,
    BenchesChecked,
    BenchTornDown,
    Report,
    ResultsCollected,
    StepStarted,
    WorkerDraining,
    WorkerFaulty,
    WorkerHeartbeat,
    WorkerRecovered,
    WorkerStarted,
    WorkerStopped,
)
from events.shared import BenchChecked, Totals
from tests.unit.processors.scheduler.history import (
    CASE,
    benches,
    lab,
    reserve,
    started,
    submit,
)

RECOVERED = WorkerRecovered(reason="")


class Chaos:
    """A random history: clients, workers that die, repeat themselves and talk late."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.history = lab("b1", "b2", "b3")
        self.epochs = {"w1": 1, "w2": 0}
        self.lives = ["", "", *(f"life-{number}" for number in range(6))]
        """Who speaks: of the worker from before, or of any life there may be."""
        self.said: list[tuple[Report, str, int, str]] = []
        self.count = 0

    def step(self) -> None:
        moves: list[Callable[[], object]] = [
            self.ask, self.ask, self.work, self.work, self.work, self.work, self.beat, self.beat,
            self.repeat, self.wait, self.rebirth, self.jump,
        ]  # fmt: skip
        self.random.choice(moves)()

    def ask(self) -> None:
        self.count += 1
        pool = self.history.ledger.pools["lab"]
        pick = self.random.choice
        reservation = pick([None, *pool.reservations, *list(pool.ended)[:3]])
        execution = pick(["none", *pool.executions])
        bench = pick(["b1", "b2", "b3"])
        wait_s = pick([None, 5.0, 50.0])
        selector = pick(["", "board=rpi4", "n=b1", "n in (b2,b3)"])
        command = pick(
            [
                reserve(f"r{self.count}", *[selector] * pick([1, 1, 2]), wait_timeout_s=wait_s),
                submit(f"e{self.count}", selector=selector, wait_timeout_s=wait_s),
                submit(f"e{self.count}", reservation_id=reservation, priority=pick([0, 3])),
                ReleaseReservation(reservation_id=reservation or "none"),
                ExtendReservation(reservation_id=reservation or "none", duration_s=30.0),
                CancelExecution(execution_id=execution, reason=""),
                pick([QuarantineBench(bench=bench, reason="ill"), RestoreBench(bench=bench)]),
                RestoreBench(bench=bench),
                ResumeWorker(worker=pick(["w1", "w2"]), reason=""),
                RestoreBench(bench=bench),
                benches(bench, config=pick(["{}", '{"a": 1}'])),
            ]
        )
        self.history.ask(command)

    def say(self, body: Report, worker: str, epoch: int, life: str = "") -> None:
        self.said.append((body, worker, epoch, life))
        self.history.report(body, worker=worker, epoch=epoch, life=life)

    def work(self) -> None:
        """A worker does something about one of its tasks, perhaps an old one."""
        if not self.history.orders:
            return
        meta, task = self.random.choice(self.history.orders[-8:])
        match task:
            case tasks.TearDownBench():
                body: Report = BenchTornDown(
                    execution_id=task.execution_id,
                    attempt=task.attempt,
                    fence=task.fence,
                    bench=task.bench.name,
                    error=self.random.choice(["", "", "stuck"]),
                )
            case tasks.RunAttempt():
                body = self.random.choice([self._step(task), self._cases(task), self._end(task)])
            case tasks.WorkerSuperseded():
                self.epochs[meta.worker] = max(self.epochs[meta.worker], task.newest_epoch + 1)
                body = started(2)
                meta = replace(meta, epoch=self.epochs[meta.worker])
            case tasks.StopAttempt():
                body = AttemptUnknown(
                    execution_id=task.execution_id, attempt=task.attempt, fence=task.fence
                )
            case tasks.CheckBenches():
                body = self._checked(task)
            case _:
                return
        self.say(body, meta.worker, meta.epoch, self.random.choice([meta.life] * 30 + self.lives))

    def _checked(self, task: tasks.CheckBenches) -> Report:
        code = self.random.choice(["", "", "invalid_config"])
        return BenchesChecked(
            checks=tuple(
                BenchChecked(bench=each.bench.name, version=each.version, code=code, reason=code)
                for each in task.benches
            )
        )

    def _step(self, task: tasks.RunAttempt) -> Report:
        return StepStarted(
            execution_id=task.execution_id,
            attempt=task.attempt,
            fence=task.fence,
            step=self.random.choice(["provision", "run", "collect", "teardown", "dance"]),
            handle="{}",
        )

    def _cases(self, task: tasks.RunAttempt) -> Report:
        first = self.random.choice([0, 1])
        ref = {"execution_id": task.execution_id, "attempt": task.attempt, "fence": task.fence}
        return ResultsCollected(**ref, first_case=first, cases=(CASE,))

    def _end(self, task: tasks.RunAttempt) -> Report:
        verdict = self.random.choice(["passed", "failed", "error", "timed_out", "cancelled"])
        return AttemptEnded(
            execution_id=task.execution_id,
            attempt=task.attempt,
            fence=task.fence,
            verdict=verdict,
            code=verdict,
            reason="",
            totals=Totals(passed=0, failed=0, errors=0, skipped=0),
            artifacts=(),
            is_retriable=verdict == "error",
            teardown_error=self.random.choice([""] * 9 + ["stuck"]),
        )

    def beat(self) -> None:
        pool = self.history.ledger.pools["lab"]
        for worker, epoch in self.epochs.items():
            known = pool.workers.get(worker)
            life = "" if known is None else self.random.choice([known.life] * 30 + self.lives)
            self.say(WorkerHeartbeat(running=()), worker, epoch, life)
            fit = self.random.choice(
                [None, None, None, WorkerFaulty(code="full", reason=""), RECOVERED]
            )
            if fit is not None:
                self.say(fit, worker, epoch, life)

    def repeat(self) -> None:
        if self.said:
            body, worker, epoch, life = self.random.choice(self.said)
            self.history.report(body, worker=worker, epoch=epoch, life=life)

    def wait(self) -> None:
        self.history.after(self.random.choice([0.3, 0.3, 1.0, 1.0, 3.0, 3.0, 3.0, 11.0, 80.0]))

    def jump(self) -> None:
        """The clock is set, seldom."""
        if self.random.random() < 0.1:
            self.history.jump(self.random.choice([60.123456, 7_200.0, 90_000.7]))

    def rebirth(self) -> None:
        worker = self.random.choice(["w1", "w2"])
        body: Report = self.random.choice(
            [
                started(self.random.choice([1, 4])),
                started(2),
                started(3),
                WorkerDraining(reason=""),
                WorkerStopped(reason=""),
            ]
        )
        known = self.history.ledger.pools["lab"].workers.get(worker)
        same = "life-0" if known is None else known.life
        life = self.random.choice([same] * 30 + self.lives)
        if isinstance(body, WorkerStarted):
            self.epochs[worker] += self.random.choice([0, 1, 1])
            body = replace(body, after_life=self.random.choice(self.lives))
        self.say(body, worker, self.epochs[worker], life)


@pytest.mark.parametrize("block", range(6))
def test_random_histories_keep_the_invariants(block: int) -> None:
    finished = 0
    for seed in range(block * 50, (block + 1) * 50):
        chaos = Chaos(seed)
        for _ in range(250):
            chaos.step()
        try:
            chaos.history.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        finished += len(chaos.history.results)
    assert finished > 150, "the histories do something"
