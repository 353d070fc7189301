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
from events.facts import Event
from events.message import EventMessage, Message
from events.reports import (
    AttemptEnded,
    Report,
    WorkerStarted,
)
from events.results import ExecutionResult
from events.shared import BenchSpec, Case, CommandMeta, ReportMeta, RunSpec, TaskMeta, Totals
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
    offsets: dict[str, int] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def _input(self, topic: str, meta: CommandMeta | ReportMeta, body: object) -> list[Event]:
        offset = self.offsets[topic] = self.offsets.get(topic, -1) + 1
        given = Input(
            topic=topic,
            offset=offset,
            at=START + timedelta(seconds=self.now_s),
            received_s=self.now_s,
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

    def after(self, seconds: float) -> list[Event]:
        self.now_s += seconds
        now = START + timedelta(seconds=self.now_s)
        return self._take(*core.tick(self.ledger, Tick(now=now, monotonic_s=self.now_s)))

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
