"""How fast read models take events in, and how fast they answer: `measure(executions=…)`.

Prints nothing itself; run as a module, it prints what it measured.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any, cast

from events import facts
from events.codec import decode_event, encode
from events.facts import Event
from events.ids import event_id
from events.log import Partition, Record
from events.message import Message
from events.shared import BenchSpec, Case, EventMeta, RunSpec, Totals
from projections import queries
from projections.rows import ExecutionFilter, Slice
from projections.schema import fingerprint
from projections.store import Store
from projections.tail import Tail

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
BENCHES = 20
QUERIES = 200
_RUN = RunSpec(
    command=("pytest", "-q", "tests/diagnostics"),
    env={"SUITE": "diagnostics"},
    timeout_s=600.0,
    junit=("report.xml",),
    artifacts=("out/*",),
)
_TOTALS = Totals(passed=5, failed=0, errors=0, skipped=0)
_CASES = tuple(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured, on the machine it was measured on."""

    events: int
    apply_events_per_s: float
    """Decode, check, apply and commit, to a file, in batches of 500 records."""
    decode_events_per_s: float
    """Decoding alone, of the same bytes."""
    batch_ms_p50: float
    batch_ms_p99: float
    """How long one batch keeps the event loop."""
    database_bytes: int
    list_ms_p50: float
    """A part of 100 executions with their attempts."""
    list_ms_p99: float
    get_ms_p50: float
    get_ms_p99: float
    fingerprint_s: float


def decisions_of(number: int) -> Iterator[list[Event]]:
    """Yield the decisions of one execution, as the scheduler writes them."""
    name = f"exe-{number:032x}"
    bench = f"bench-{number % BENCHES}"
    fence = number // BENCHES + 1
    yield [
        facts.ExecutionSubmitted(
            execution_id=name, owner="ci", selector="board=rpi4", priority=0, retries=2, run=_RUN
        ),
        facts.ExecutionAssigned(
            execution_id=name, attempt=1, bench=bench, fence=fence, worker="w1", epoch=1
        ),
        facts.BenchHeld(bench=bench, fence=fence, holder_kind="execution", holder_id=name),
    ]
    for step in ("provision", "run", "collect"):
        yield [facts.AttemptStepStarted(execution_id=name, attempt=1, step=step, handle="{}")]
    yield [facts.AttemptCasesRecorded(execution_id=name, attempt=1, cases=_CASES)]
    yield [facts.AttemptStepStarted(execution_id=name, attempt=1, step="teardown")]
    yield [
        facts.AttemptFinished(
            execution_id=name,
            attempt=1,
            bench=bench,
            worker="w1",
            verdict="passed",
            code="passed",
            reason="",
            exit_code=0,
            totals=_TOTALS,
            artifacts=(),
            is_retriable=False,
        ),
        facts.ExecutionFinished(
            execution_id=name,
            verdict="passed",
            code="passed",
            reason="",
            exit_code=0,
            attempts=1,
            totals=_TOTALS,
        ),
        facts.BenchFreed(bench=bench, fence=fence, reason="its use is over"),
    ]


def journal(executions: int) -> list[Record]:
    """Return the records of so many executions on `BENCHES` benches."""
    spec = BenchSpec(name="", labels={"board": "rpi4"}, adapter="mock", config="{}")
    benches: list[Event] = [
        facts.BenchRegistered(bench=replace(spec, name=f"bench-{number}"))
        for number in range(BENCHES)
    ]
    online: list[Event] = [facts.BenchOnline(bench=f"bench-{n}") for n in range(BENCHES)]
    found: list[Record] = []
    _write(found, benches)
    _write(found, online)
    for number in range(executions):
        for decision in decisions_of(number):
            _write(found, decision)
    return found


def _write(records: list[Record], decision: list[Event]) -> None:
    first = len(records)
    is_of_command = not isinstance(decision[0], facts.AttemptStepStarted)
    for index, event in enumerate(decision):
        seq = first + index
        at = START + timedelta(milliseconds=seq)
        meta = EventMeta(
            event_id=event_id(at, 0, seq),
            pool="lab-a",
            seq=seq,
            index=index,
            count=len(decision),
            occurred_at=at,
            actor="ci",
            causation_id=f"019b8d5a-0000-7000-9000-{first:012x}",
            correlation_id=f"cor-{first}",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            input_topic="teo.commands",
            input_offset=first,
            request_hash="hash" if is_of_command else "",
        )
        records.append(
            Record(
                topic="teo.events",
                partition=0,
                offset=seq,
                timestamp=at,
                key=b"lab-a",
                value=encode(Message(meta, event)),
            )
        )


class _Batches:
    """Gives records as a reader of the log would; the broker is not what is measured."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.next = 0

    async def poll(self, *, records_max: int, wait_s: float) -> list[Record]:
        found = self.records[self.next : self.next + records_max]
        self.next += len(found)
        return found

    async def position(self, partition: object) -> int:
        return self.next

    async def close(self) -> None:
        return


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _p50_p99(seconds: list[float]) -> tuple[float, float]:
    return median(seconds) * 1000, quantiles(seconds, n=100)[98] * 1000


async def _apply(store: Store, records: list[Record]) -> list[float]:
    place = Partition("teo.events", 0)
    reader, no_log = _Batches(records), cast(Any, None)  # Of a journal that is sound none is asked.
    tail = Tail(store, no_log, reader, {place: 0}, {place: len(records)})
    batches: list[float] = []
    while batch := await tail.poll():
        batches.append(_timed(lambda batch=batch: tail.apply(batch)))  # type: ignore[misc]
        await asyncio.sleep(0)
    return batches


def measure(*, executions: int = 5_000) -> Figures:
    """Apply the events of `executions` to a file and ask it; takes about 1 s per 2,000."""
    records = journal(executions)
    decode_s = _timed(lambda: [decode_event(record.value) for record in records])
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "read.db") as store:
        batches = asyncio.run(_apply(store, records))
        assert store.mark(0).seq == len(records)
        part = Slice(limit=100)
        which = ExecutionFilter(pool="lab-a")
        lists = [_timed(lambda: queries.executions(store.db, which, part)) for _ in range(QUERIES)]
        names = [f"exe-{number * 7919 % executions:032x}" for number in range(QUERIES)]
        gets = [
            _timed(lambda name=name: queries.execution(store.db, name))  # type: ignore[misc]
            for name in names
        ]
        fingerprint_s = _timed(lambda: fingerprint(store.db))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    batch_p50, batch_p99 = _p50_p99(batches)
    list_p50, list_p99 = _p50_p99(lists)
    get_p50, get_p99 = _p50_p99(gets)
    return Figures(
        events=len(records),
        apply_events_per_s=len(records) / sum(batches),
        decode_events_per_s=len(records) / decode_s,
        batch_ms_p50=batch_p50,
        batch_ms_p99=batch_p99,
        database_bytes=size,
        list_ms_p50=list_p50,
        list_ms_p99=list_p99,
        get_ms_p50=get_p50,
        get_ms_p99=get_p99,
        fingerprint_s=fingerprint_s,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure()), indent=1) + "\n")
