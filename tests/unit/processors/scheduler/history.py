"""Plays the log for the pure core: hands inputs in with rising offsets, keeps what came out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from events import tasks
from events.commands import (
    ApplyBenches,
    Command,
    RequestReservation,
    SubmitExecution,
)
from events.dlq import DeadLetter
from events.facts import ClockJumped, Event
from events.message import EventMessage, Message
from events.reports import (
    AttemptEnded,
    BenchesChecked,
    Report,
    WorkerHeartbeat,
    WorkerStarted,
)
from events.results import ExecutionResult
from events.shared import (
    AttemptRef,
    BenchChecked,
    BenchSpec,
    Case,
    CommandMeta,
    ReportMeta,
    RunSpec,
    TaskMeta,
    Totals,
)
from processors.scheduler import core
from processors.scheduler.decision import Decision, Input, Tick
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger
from tests.sim.checkers import check_journal, check_results

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
RUN = RunSpec(command=("true",), env={}, timeout_s=60.0, junit=(), artifacts=())
CASE = Case(
    suite="s", classname="c", name="n", status="passed", duration_s=0.1, message="", details=""
)


@dataclass
class History:
    """The log as the core sees it."""

    ledger: Ledger = field(default_factory=lambda: Ledger(0))
    events: list[EventMessage] = field(default_factory=list)
    orders: list[tuple[TaskMeta, tasks.Task]] = field(default_factory=list)
    results: list[ExecutionResult] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    now_s: float = 0.0
    jumped_s: float = 0.0
    """By how much clocks jumped, and the monotonic one did not."""
    offsets: dict[str, int] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def _input(self, topic: str, meta: CommandMeta | ReportMeta, body: object) -> list[Event]:
        offset = self.offsets[topic] = self.offsets.get(topic, -1) + 1
        given = Input(
            topic=topic,
            offset=offset,
            at=START + timedelta(seconds=self.now_s),
            received_s=self.now_s - self.jumped_s,
            message=Message(meta, body),
        )
        return self._take(core.handle(self.ledger, given))

    def _take(self, *decisions: Decision) -> list[Event]:
        for decision in decisions:
            self.events += decision.events
            self.orders += [(message.meta, message.body) for message in decision.tasks]
            self.results += decision.results
            self.letters += decision.letters
            self.decisions.append(decision)
            self.ignored += decision.ignored
        return [message.body for decision in decisions for message in decision.events]

    def ask(
        self,
        body: Command,
        *,
        actor: str = "ann",
        roles: tuple[str, ...] = ("user",),
        command_id: str = "",
        after: str = "",
    ) -> list[Event]:
        meta = CommandMeta(
            command_id=command_id or f"cmd-{next(self.ids)}",
            pool="lab",
            actor=actor,
            roles=roles,
            issued_at=START,
            correlation_id="cor",
            traceparent="",
            request_hash="h",
            after=after,
        )
        return self._input("commands", meta, body)

    def report(
        self, body: Report, *, worker: str = "w1", epoch: int = 1, life: str = ""
    ) -> list[Event]:
        meta = ReportMeta(
            report_id=f"rep-{next(self.ids)}",
            pool="lab",
            worker=worker,
            epoch=epoch,
            sent_at=START,
            correlation_id="",
            traceparent="",
            life=life,
        )
        return self._input("reports", meta, body)

    def beat(self, *, worker: str = "w1", epoch: int = 1, life: str = "") -> list[Event]:
        """Say a heartbeat that names all that the worker was given."""
        executions = self.ledger.pools["lab"].executions.values()
        running = tuple(
            AttemptRef(execution_id=each.id, attempt=each.attempt)
            for each in executions
            if (each.state, each.worker) == ("active", worker)
        )
        body = WorkerHeartbeat(running=running)
        return self.report(body, worker=worker, epoch=epoch, life=life)

    def takes(self, *, life: str, worker: str = "w1") -> list[Event]:
        """Have a life take every bench that it was told to look at."""
        found = {
            each.bench.name: each.version
            for meta, task in self.orders
            if isinstance(task, tasks.CheckBenches) and meta.life == life
            for each in task.benches
        }
        checks = tuple(
            BenchChecked(bench=name, version=version, code="", reason="")
            for name, version in found.items()
        )
        epoch = self.ledger.pools["lab"].workers[worker].epoch
        return self.report(BenchesChecked(checks=checks), worker=worker, epoch=epoch, life=life)

    def jump(self, by_s: float) -> list[Event]:
        """Let the clock that stamps inputs jump, and the runtime see it."""
        self.now_s += by_s
        self.jumped_s += by_s
        jumped = ClockJumped(source="reports", by_s=by_s, reason="seen")
        at = START + timedelta(seconds=self.now_s)
        return self._take(core.clock_jumped(self.ledger, jumped, at=at, pool="lab"))

    def after(self, seconds: float) -> list[Event]:
        self.now_s += seconds
        now = START + timedelta(seconds=self.now_s)
        return self._take(
            *core.tick(self.ledger, Tick(now=now, monotonic_s=self.now_s - self.jumped_s))
        )

    def check(self) -> None:
        check_journal(self.events)
        check_results(self.events, self.results)
        replayed = Ledger(0)
        for message in self.events:
            fold(replayed, message)
        assert replayed == self.ledger, "folding the journal gives the live state"


def benches(*names: str, adapter: str = "mock", config: str = "{}") -> ApplyBenches:
    return ApplyBenches(
        benches=tuple(
            BenchSpec(
                name=name, labels={"board": "rpi4", "n": name}, adapter=adapter, config=config
            )
            for name in names
        )
    )


def started(
    slots: int = 4, benches: tuple[str, ...] = (), adapters: tuple[str, ...] = ("mock",)
) -> WorkerStarted:
    return WorkerStarted(adapters=adapters, benches=benches, slots=slots, version="1")


def lab(*names: str) -> History:
    history = History()
    history.ask(benches(*names))
    history.report(started())
    return history


def submit(name: str, *, selector: str = "", **changes: object) -> SubmitExecution:
    given = {"reservation_id": None, "priority": 0, "retries": 2, "run": RUN} | changes
    return SubmitExecution(execution_id=name, selector=selector, **given)  # type: ignore[arg-type]


def reserve(name: str, *selectors: str, **changes: object) -> RequestReservation:
    given = {"duration_s": 60.0, "priority": 0} | changes
    return RequestReservation(
        reservation_id=name,
        selectors=selectors or ("",),
        **given,  # type: ignore[arg-type]
    )


def ended(history: History, name: str, verdict: str = "passed", **changes: object) -> AttemptEnded:
    execution = history.ledger.pools["lab"].executions[name]
    given = {
        "code": verdict,
        "reason": "",
        "totals": Totals(passed=1, failed=0, errors=0, skipped=0),
        "artifacts": (),
        "is_retriable": verdict == "error",
        "teardown_error": "",
    } | changes
    return AttemptEnded(
        execution_id=name,
        attempt=execution.attempt,
        fence=execution.fence,
        verdict=verdict,
        **given,  # type: ignore[arg-type]
    )


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
