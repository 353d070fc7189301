"""Rules about the lives of workers: in the journal, and in what workers themselves said.

The journal alone cannot show two processes under one id that speak as one. Their reports can: both
say that the same step begins, or their lives speak in turns.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from events import facts
from events.codec import decode_report
from events.errors import Undecodable
from events.log import Log, Partition, Record
from events.message import EventMessage, ReportMessage
from events.reading import read_until
from events.reports import StepStarted, WorkerHeartbeat, WorkerStarted
from events.topics import Topics
from processors.audit.findings import Finding, Findings
from processors.audit.rule import Rule

RETURNS_MAX = 2
"""A life that another one followed may be heard this often: what was under way, and a repeat."""
ATTEMPTS_KEPT_MAX = 100_000
LIVES_KEPT_MAX = 64
HEARTBEAT = b"WorkerHeartbeat"
NAME = "one_process_per_worker"


@dataclass(frozen=True, slots=True)
class _Registered:
    life: str
    epoch: int


class OneLifeOfAWorker(Rule):
    """Of each worker one life is registered at a time, and it alone is given anything to do."""

    name = "one_life_of_a_worker"

    def __init__(self) -> None:
        self._registered: dict[tuple[str, str], _Registered] = {}
        self._last: dict[tuple[str, str], str] = {}

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        pool = message.meta.pool
        match message.body:
            case facts.WorkerRegistered() as registered:
                yield from self._begin((pool, registered.worker), registered)
            case facts.WorkerLost() | facts.WorkerGone() as ended:
                yield from self._is_registered((pool, ended.worker), ended.epoch, "ended")
                self._registered.pop((pool, ended.worker), None)
            case facts.WorkerRefused() as refused:
                known = self._registered.get((pool, refused.worker))
                if known is None or known.life == refused.life:
                    yield f"life {refused.life} is refused though no other is registered"
            case facts.ExecutionAssigned() as assigned:
                key = (pool, assigned.worker)
                yield from self._is_registered(key, assigned.epoch, "given an attempt")
                known = self._registered.get(key)
                if known is not None and known.life != assigned.life:
                    yield f"given to life {assigned.life!r}, and {known.life!r} is registered"
            case facts.TeardownRequested() as asked:
                yield from self._is_registered((pool, asked.worker), asked.epoch, "asked to clean")

    def _begin(self, key: tuple[str, str], registered: facts.WorkerRegistered) -> Iterator[str]:
        if (known := self._registered.get(key)) is not None:
            yield f"life {known.life or known.epoch} of it is registered already"
        if registered.life and self._last.get(key) == registered.life:
            yield f"life {registered.life} is registered a second time"
        self._registered[key] = _Registered(registered.life, registered.epoch)
        self._last[key] = registered.life

    def _is_registered(self, key: tuple[str, str], epoch: int, what: str) -> Iterator[str]:
        known = self._registered.get(key)
        if known is None or known.epoch != epoch:
            yield f"life {epoch} of worker {key[1]} is {what} though it is not registered"


@dataclass(slots=True)
class _Lives:
    """The lives of one worker, as they spoke."""

    speaking: str
    returns: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Of each life that another one followed: how often it was heard again."""


class OneProcessPerWorker:
    """What workers said of their work comes from one process each.

    Heartbeats and asks say nothing of work: a process that is refused asks, and none of it is
    believed. Memory is bounded: what is long past is forgotten.
    """

    def __init__(self) -> None:
        self._lives: dict[tuple[str, str], _Lives] = {}
        self._steps: OrderedDict[tuple[str, int], dict[str, str]] = OrderedDict()

    def see(self, message: ReportMessage) -> Iterator[str]:
        """Yield what is wrong with the next report."""
        meta, report = message.meta, message.body
        if isinstance(report, WorkerHeartbeat | WorkerStarted):
            return
        life = meta.life or f"of epoch {meta.epoch}"
        yield from self._turn((meta.pool, meta.worker), life)
        if isinstance(report, StepStarted):
            yield from self._step(report, meta.report_id)

    def _turn(self, key: tuple[str, str], life: str) -> Iterator[str]:
        lives = self._lives.setdefault(key, _Lives(life))
        if lives.speaking == life:
            return
        lives.returns.setdefault(lives.speaking, 0)
        if life in lives.returns:
            lives.returns[life] += 1
            if lives.returns[life] == RETURNS_MAX + 1:
                yield f"lives {life} and {lives.speaking} of worker {key[1]} speak in turns"
        while len(lives.returns) > LIVES_KEPT_MAX:
            lives.returns.popitem(last=False)
        lives.speaking = life

    def _step(self, report: StepStarted, report_id: str) -> Iterator[str]:
        key = (report.execution_id, report.attempt)
        steps = self._steps.setdefault(key, {})
        if steps.setdefault(report.step, report_id) != report_id:
            yield (
                f"step {report.step} of attempt {report.attempt} of {report.execution_id} "
                "is said to begin twice"
            )
        while len(self._steps) > ATTEMPTS_KEPT_MAX:
            self._steps.popitem(last=False)


async def check_reports(log: Log, topics: Topics, findings: Findings) -> int:
    """Each worker is one process, as far as what it said is kept. Return how many reports.

    What cannot be decoded was set aside by the scheduler, and is no matter here.
    """
    rule, count = OneProcessPerWorker(), 0
    async with aclosing(_records(log, topics)) as records:
        async for record in records:
            try:
                message = decode_report(record.value)
            except Undecodable:
                continue
            count += 1
            for text in rule.see(message):
                findings.add(
                    Finding(
                        rule=NAME,
                        text=text,
                        topic=record.topic,
                        partition=record.partition,
                        offset=record.offset,
                        ids=(message.meta.worker, message.meta.life, message.meta.report_id),
                    )
                )
    return count


async def _records(log: Log, topics: Topics) -> AsyncGenerator[Record, None]:
    """Yield all reports but heartbeats, which are not even decoded: they are most of them."""
    topic = topics.reports
    partitions = [Partition(topic, number) for number in range(await log.partitions(topic))]
    begins, ends = await log.begins(partitions), await log.ends(partitions)
    for each in partitions:
        async with aclosing(read_until(log, each, begins[each], ends[each])) as batches:
            async for records in batches:
                for record in records:
                    if record.headers.get("ce_type") != HEARTBEAT:
                        yield record
