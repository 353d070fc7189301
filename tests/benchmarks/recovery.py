"""How long a recovery takes, beside the length of history, with and without a snapshot.

The journal is what the decider itself makes of honest executions, one a second of log time, so
that the state carries a day of them. Run as a module it is the process that is measured.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opentelemetry.metrics import NoOpMeterProvider

from events import tasks
from events.commands import ApplyBenches, SubmitExecution
from events.ids import derived_id
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Log, Partition, Writer
from events.message import Message
from events.reports import AttemptEnded, ResultsCollected, StepStarted, WorkerStarted
from events.shared import BenchSpec, Case, CommandMeta, ReportMeta, RunSpec, Totals
from events.topics import Topics, specs
from processors.runtime.metrics import runtime_metrics
from processors.runtime.records import records_of
from processors.runtime.recovery import Recovered, recover, resume
from processors.runtime.snapshot_writer import EVENTS_PER_SNAPSHOT, SnapshotWriter
from processors.scheduler import core
from processors.scheduler.decision import Decision, Input
from processors.scheduler.state import Ledger

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
POOL = "lab"
BENCHES = 20
RUN = RunSpec(
    command=("pytest", "-q", "tests/diagnostics"),
    env={"SUITE": "diagnostics"},
    timeout_s=600.0,
    junit=("report.xml",),
    artifacts=("out/*",),
)
CASES = tuple(
    Case(
        suite="diagnostics",
        classname="tests.test_uds",
        name=f"test_reads_identifier[{number}]",
        status="passed",
        duration_s=0.02,
        message="",
        details="",
    )
    for number in range(5)
)
EVENTS_PER_COMMIT = 2_000
LENGTHS = (10_000, 100_000, 1_000_000)


class History:
    """A pool at work, decision by decision."""

    def __init__(self) -> None:
        self.ledger = Ledger(0)
        self._count = 0
        self._offsets = {"commands": -1, "reports": -1}

    def _handle(self, topic: str, message: Message[object, object]) -> Decision:
        self._offsets[topic] += 1
        at = START + timedelta(seconds=self._count)
        return core.handle(
            self.ledger,
            Input(
                topic=topic,
                offset=self._offsets[topic],
                at=at,
                received_s=0.0,
                message=message,  # type: ignore[arg-type]
            ),
        )

    def _ask(self, body: object) -> Decision:
        at = START + timedelta(seconds=self._count)
        meta = CommandMeta(
            command_id=derived_id(at, f"command/{self._count}"),
            pool=POOL,
            actor="ci",
            roles=(),
            issued_at=at,
            correlation_id=derived_id(at, f"trace/{self._count}"),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            request_hash="5f2c1d",
        )
        return self._handle("commands", Message(meta, body))

    def _report(self, body: object) -> Decision:
        at = START + timedelta(seconds=self._count)
        offset = self._offsets["reports"] + 1
        meta = ReportMeta(
            report_id=derived_id(at, f"report/{offset}"),
            pool=POOL,
            worker="w1",
            epoch=1,
            sent_at=at,
            correlation_id="",
            traceparent="",
        )
        return self._handle("reports", Message(meta, body))

    def decisions(self) -> Iterator[Decision]:
        """Yield them, without end."""
        specs_ = tuple(
            BenchSpec(name=f"b{n}", labels={"board": "rpi4"}, adapter="mock", config="{}")
            for n in range(BENCHES)
        )
        yield self._ask(ApplyBenches(benches=specs_))
        yield self._report(WorkerStarted(adapters=("mock",), benches=(), slots=64, version="1"))
        while True:
            self._count += 1
            yield from self._execution()

    def _execution(self) -> Iterator[Decision]:
        at = START + timedelta(seconds=self._count)
        name = "exe-" + derived_id(at, f"execution/{self._count}").replace("-", "")
        submitted = self._ask(
            SubmitExecution(
                execution_id=name, selector="board=rpi4", priority=0, retries=2, run=RUN
            )
        )
        yield submitted
        [task] = [each.body for each in submitted.tasks if isinstance(each.body, tasks.RunAttempt)]
        ref = {"execution_id": name, "attempt": task.attempt, "fence": task.fence}
        for step in ("provision", "run", "collect"):
            yield self._report(StepStarted(**ref, step=step, handle="{}"))
        yield self._report(ResultsCollected(**ref, first_case=0, cases=CASES))
        yield self._report(StepStarted(**ref, step="teardown"))
        yield self._report(
            AttemptEnded(
                **ref,
                verdict="passed",
                code="passed",
                reason="",
                exit_code=0,
                totals=Totals(passed=5, failed=0, errors=0, skipped=0),
                artifacts=(),
                is_retriable=False,
                teardown_error="",
            )
        )


class Journal:
    """The journal of one partition in the making, with snapshots as an owner takes them."""

    def __init__(self, topics: Topics, writer: Writer) -> None:
        self._topics = topics
        self._writer = writer
        self._history = History()
        self._decisions = self._history.decisions()
        metrics = runtime_metrics(NoOpMeterProvider().get_meter("bench"))
        self._snapshots = SnapshotWriter(topics, metrics, EVENTS_PER_SNAPSHOT)
        self._snapshots.begin(
            Recovered(self._history.ledger, next_offset=0, end=0, has_snapshots=True)
        )
        self.journal_bytes = 0
        self.executions = 0
        self.snapshot_bytes = 0
        self.snapshot_s = 0.0
        """Longest time that taking a snapshot kept the event loop."""

    async def close(self) -> None:
        """Give back the writer."""
        await self._writer.close()

    async def grow(self, length: int) -> None:
        """Write until the journal has `length` events."""
        while (seq := self._history.ledger.seq) < length:
            batch: list[Decision] = []
            while self._history.ledger.seq < min(length, seq + EVENTS_PER_COMMIT):
                batch.append(next(self._decisions))
            outgoing = list(records_of(self._topics, 0, batch))
            outgoing = [each for each in outgoing if each.topic == self._topics.events]
            self.journal_bytes += sum(len(each.value or b"") for each in outgoing)
            self.executions += sum(len(each.results) for each in batch)
            start_s = time.perf_counter()
            taken = self._snapshots.goes_with(self._history.ledger, batch, START)
            if taken:
                self.snapshot_s = max(self.snapshot_s, time.perf_counter() - start_s)
                self.snapshot_bytes = sum(len(each.value or b"") for each in taken)
            outgoing += taken
            self._snapshots.committed(outgoing, await self._writer.commit(outgoing))


@dataclass(frozen=True, slots=True)
class Figures:
    """One recovery in a process of its own."""

    took_s: float
    cpu_s: float
    folded: int
    rss_mb: float


async def measured(bootstrap: str, prefix: str, *, with_snapshot: bool) -> Figures:
    """Recover partition 0 in a fresh process."""
    kind = "snapshot" if with_snapshot else "fold"
    command = [sys.executable, "-m", "tests.benchmarks.recovery", bootstrap, prefix, kind]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    return Figures(**json.loads(output.splitlines()[-1]))


async def build(log: Log, bootstrap: str, prefix: str) -> Journal:
    """Make the topics and an empty journal."""
    topics = Topics(prefix)
    await ensure_topics(bootstrap, specs(topics, partitions=1, min_insync=1), replication=1)
    return Journal(topics, await log.open_writer(f"{prefix}-0"))


async def child(bootstrap: str, prefix: str, kind: str) -> None:
    """Recover, and print the figures."""
    topics = Topics(prefix)
    async with KafkaLog(bootstrap, client_id="bench") as log:
        await log.partitions(topics.events)
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        if kind == "snapshot":
            found = await resume(log, topics, 0)
            folded = found.ledger.seq - found.from_seq
        else:
            folded = (await recover(log, Partition(topics.events, 0))).seq
        took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"took_s": took_s, "cpu_s": cpu_s, "folded": folded, "rss_mb": rss_mb}
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(child(*sys.argv[1:]))
