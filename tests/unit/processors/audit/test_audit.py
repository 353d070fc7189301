"""The whole self-check on a log in memory: clean when honest, and each fault found and named."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from events.codec import decode, encode
from events.facts import BenchOnline, ExecutionFinished, InputSetAside
from events.log import Outgoing, Partition
from events.message import EventMessage, Message
from events.reports import Report, StepStarted
from events.shared import ReportMeta
from events.topics import Topics
from processors.audit.audit import Summary, audit
from processors.audit.findings import FINDINGS_PER_RULE_MAX, Findings
from processors.audit.journal import Live
from processors.runtime.inputs import input_id
from processors.runtime.records import set_aside_record
from processors.runtime.snapshot import Taken, fingerprint, records_of, take
from processors.scheduler import core
from processors.scheduler.evolve import fold
from processors.scheduler.state import Ledger
from tests.sim.memory_cluster import START, MemoryCluster
from tests.sim.memory_log import MemoryLog
from tests.unit.processors.audit.given import honest, inserted, kinds

TOPICS = Topics("t")
EVENTS = Partition(TOPICS.events, 0)


def on_topic(message: EventMessage) -> EventMessage:
    """Return an event of a history as if its input had come by a topic of ours."""
    topic = message.meta.input_topic
    meta = replace(message.meta, input_topic=f"{TOPICS.prefix}.{topic}" if topic else "")
    return replace(message, meta=meta)


class Lab:
    """An environment of one partition, as an honest scheduler leaves it."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(topics=TOPICS, partitions=1)
        self.log = MemoryLog(self.cluster)
        history = honest()
        self.events = [on_topic(message) for message in history.events]
        ledger = Ledger(0)
        for message in self.events:
            fold(ledger, message)
        self._inputs(self.events)
        self._set_aside(ledger, self.events)
        for message in self.events:
            self._put(TOPICS.events, encode(message), b"lab")
        for result in history.results:
            self._put(TOPICS.results, encode(result), result.execution_id.encode())
        for letter in history.letters:
            self._put(TOPICS.dlq, encode(letter), letter.key)
        self.snapshot(len(self.events) // 2)
        self.snapshot(len(self.events))
        self.live = [Live(source="s1", seq=ledger.seq, fingerprint=fingerprint(ledger))]

    def _inputs(self, events: list[EventMessage]) -> None:
        """What the events were decided from: records that say who they are, and heartbeats."""
        for topic in TOPICS.inputs:
            known = {e.meta.input_offset: e.meta for e in events if e.meta.input_topic == topic}
            for offset in range(max(known, default=-1) + 1):
                name = known[offset].causation_id if offset in known else "a-heartbeat"
                headers = {"ce_id": name.encode()}
                at = self.cluster.put(Outgoing(topic=topic, key=b"lab", value=b"", headers=headers))
                assert at.offset == offset

    def _set_aside(self, ledger: Ledger, events: list[EventMessage]) -> None:
        """An input that nobody can read, and its letter."""
        at = self.cluster.put(Outgoing(topic=TOPICS.reports, key=b"lab", value=b"?"))
        record = self.cluster.records(TOPICS.reports, 0)[at.offset]
        error = ValueError("unreadable")
        aside = InputSetAside(source_topic=record.topic, source_offset=at.offset, error="?")
        decision = core.set_aside(
            ledger, aside, input_id=input_id(record), at=ledger.now, pool="lab"
        )
        events += decision.events
        self.cluster.put(set_aside_record(TOPICS, record, error, START))

    def _put(self, topic: str, value: bytes | None, key: bytes | None) -> None:
        at = self.cluster.put(Outgoing(topic=topic, key=key, value=value, partition=0))
        self.cluster.mark([(topic, at)])

    def folded(self, count: int) -> tuple[Ledger, int]:
        """Return the fold of at least so many events, whole decisions, and the offset of the
        last."""
        ledger = Ledger(0)
        for place, message in enumerate(self.events):
            fold(ledger, message)
            if place + 1 >= count and message.meta.index == message.meta.count - 1:
                return ledger, place * 2
        raise AssertionError(count)

    def snapshot(self, count: int, change: Callable[[Ledger], Ledger] = lambda one: one) -> None:
        ledger, offset = self.folded(count)
        last = self.events[ledger.seq - 1].meta.event_id
        taken = Taken(ledger=change(ledger), last_event_id=last, journal_offset=offset)
        for record in records_of(TOPICS, take(taken, at=START)):
            self.cluster.put(record)

    def rewrite(self, events: list[EventMessage]) -> None:
        """Put another journal in the place of this one."""
        self.cluster.stored[EVENTS].clear()
        for message in events:
            self._put(TOPICS.events, encode(message), b"lab")

    def drop(self, topic: str, which: int) -> None:
        entries = self.cluster.stored[Partition(topic, 0)]
        places = [place for place, record in enumerate(entries) if record is not None]
        entries[places[which]] = None

    def alter(self, topic: str, which: int, **changes: Any) -> None:
        """Change a record's value; `value` puts raw bytes there."""
        entries = self.cluster.stored[Partition(topic, 0)]
        places = [place for place, record in enumerate(entries) if record is not None]
        record = entries[places[which]]
        assert record is not None
        raw = changes.pop("raw", None)
        value = encode(replace(decode(record.value), **changes)) if raw is None else raw
        entries[places[which]] = replace(record, value=value)

    async def check(self) -> tuple[Findings, Summary]:
        findings = Findings()
        summary = await audit(self.log, TOPICS, findings, live={0: self.live})
        return findings, summary


def play(scene: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await scene(Lab())

    asyncio.run(run())


def test_an_honest_environment_is_clean() -> None:
    async def scene(lab: Lab) -> None:
        findings, summary = await lab.check()
        assert findings.kept == []
        assert summary.events == len(lab.events)
        assert (summary.partitions, summary.snapshots, summary.live_states) == (1, 2, 1)
        assert summary.results == len(kinds(lab.events, ExecutionFinished))
        assert summary.dead_letters == 2

    play(scene)


def test_two_processes_that_speak_as_one_worker_are_found_in_what_they_said() -> None:
    def said(number: int, report: Report) -> bytes:
        meta = ReportMeta(
            report_id=f"rep-{number}",
            pool="lab",
            worker="w1",
            epoch=1,
            sent_at=START,
            correlation_id="",
            traceparent="",
        )
        return encode(Message(meta, report))

    async def scene(lab: Lab) -> None:
        step = StepStarted(execution_id="e1", attempt=1, fence=1, step="run")
        lab._put(TOPICS.reports, said(1, step), b"lab")
        lab._put(TOPICS.reports, said(1, step), b"lab")
        findings, summary = await lab.check()
        assert findings.kept == [], "a repeat"
        assert summary.reports == 2
        lab._put(TOPICS.reports, said(2, step), b"lab")
        findings, _ = await lab.check()
        [finding] = findings.kept
        assert (finding.rule, finding.topic) == ("one_process_per_worker", TOPICS.reports)
        assert "said to begin twice" in finding.text
        assert finding.offset > 0
        assert {"w1", "rep-2"} <= set(finding.ids)

    play(scene)


def test_a_command_that_two_partitions_decide_is_found() -> None:
    """As one Idempotency-Key that was sent to two pools once was."""

    async def scene(lab: Lab) -> None:
        first = next(each for each in lab.events if each.meta.request_hash)
        one = replace(first, meta=replace(first.meta, seq=0, index=0, count=1, pool="other"))
        lab.cluster.stored |= {
            Partition(topic, 1): []
            for topic in (*TOPICS.inputs, TOPICS.events, TOPICS.results, TOPICS.dlq)
        }
        lab.cluster.stored[Partition(TOPICS.snapshots, 1)] = []
        lab.cluster.partitions = 2
        lab.cluster.put(Outgoing(topic=TOPICS.events, key=b"other", value=encode(one), partition=1))
        findings, _ = await lab.check()
        found = [each for each in findings.kept if each.rule == "one_outcome_per_command"]
        (finding,) = found
        assert first.meta.causation_id in finding.text
        assert (finding.partition, finding.seq) == (1, 0)

    play(scene)


def test_a_forged_event_is_named_with_its_place() -> None:
    async def scene(lab: Lab) -> None:
        forged = replace(lab.events[7].meta, seq=7, index=0, count=1)
        lab._put(TOPICS.events, encode(replace(lab.events[7], meta=forged)), b"lab")
        findings, _ = await lab.check()
        found = {finding.rule: finding for finding in findings.kept}
        assert {"journal_is_dense_and_whole"} <= set(found)
        finding = found["journal_is_dense_and_whole"]
        assert finding.offset == len(lab.events) * 2
        assert (finding.topic, finding.partition, finding.seq) == (TOPICS.events, 0, 7)
        assert lab.events[7].meta.event_id in finding.ids
        assert "lab" in finding.ids

    play(scene)


def test_a_forged_event_in_order_has_no_id_of_the_scheduler() -> None:
    async def scene(lab: Lab) -> None:
        end, forged = len(lab.events), BenchOnline(bench="b1")
        lab.rewrite(inserted(lab.events, end, forged, input_topic="", input_offset=-1))
        findings, _ = await lab.check()
        [finding] = findings.kept
        assert (finding.rule, finding.seq) == ("facts_are_the_schedulers", end)

    play(scene)


def forget_known(ledger: Ledger) -> Ledger:
    return replace(ledger, known={})


FAULTS: list[tuple[str, Callable[[Lab], object]]] = [
    ("snapshot_is_the_fold", lambda lab: lab.snapshot(30, forget_known)),
    (
        "snapshot_is_the_fold",
        lambda lab: lab.snapshot(len(lab.events), lambda one: replace(one, seq=one.seq + 5)),
    ),
    ("snapshots_are_whole", lambda lab: lab.alter(TOPICS.snapshots, -1, state=b"ruined")),
    ("snapshots_are_whole", lambda lab: lab.alter(TOPICS.snapshots, 0, raw=b"no message")),
    (
        "live_state_is_the_fold",
        lambda lab: lab.live.append(Live(source="s2", seq=len(lab.events), fingerprint="other")),
    ),
    (
        "live_state_is_the_fold",
        lambda lab: lab.live.append(Live(source="s2", seq=10_000, fingerprint="ahead")),
    ),
    (
        "live_state_is_the_fold",
        lambda lab: lab.live.append(Live(source="s2", seq=0, fingerprint="from nowhere")),
    ),
    ("results_are_the_ends", lambda lab: lab.drop(TOPICS.results, 0)),
    ("results_are_the_ends", lambda lab: lab.alter(TOPICS.results, 0, verdict="cancelled")),
    ("results_are_the_ends", lambda lab: lab.alter(TOPICS.results, 0, execution_id="e-forged")),
    ("results_are_the_ends", lambda lab: lab.alter(TOPICS.results, 0, execution_id="e2")),
    ("messages_are_known", lambda lab: lab.alter(TOPICS.results, 0, raw=b"?")),
    ("letters_are_the_ends", lambda lab: lab.drop(TOPICS.dlq, 0)),
    ("letters_are_the_ends", lambda lab: lab.drop(TOPICS.dlq, 1)),
    ("letters_are_the_ends", lambda lab: lab.alter(TOPICS.dlq, 0, source_offset=99)),
    ("letters_are_the_ends", lambda lab: lab.alter(TOPICS.dlq, 1, execution_id="e-forged")),
    ("events_are_known", lambda lab: lab.alter(TOPICS.events, -1, raw=b"\x00\x7f\xff\xff\xff?")),
    ("journal_is_dense_and_whole", lambda lab: lab.drop(TOPICS.events, 9)),
    (
        "journal_can_be_folded",
        lambda lab: lab.rewrite(inserted(lab.events, 3, BenchOnline(bench="no-such"))),
    ),
]


def instead(lab: Lab, topic: str, name: str, which: int = -1) -> None:
    """Put another input in the place of one that was decided."""
    entries = lab.cluster.stored[Partition(topic, 0)]
    record = entries[which]
    assert record is not None
    entries[which] = replace(record, headers={"ce_id": name.encode()})


def passed_over(lab: Lab) -> None:
    """A command that came to stand before the position, and that nobody decided."""
    lab.rewrite([e for e in lab.events if e.meta.input_offset != 2 or not e.meta.request_hash])


FAULTS += [
    ("inputs_are_those_decided", lambda lab: instead(lab, TOPICS.commands, "another")),
    ("inputs_are_those_decided", lambda lab: instead(lab, TOPICS.reports, "another", 1)),
    ("inputs_are_those_decided", lambda lab: lab.cluster.make_anew(TOPICS.commands)),
    ("inputs_are_those_decided", lambda lab: lab.cluster.shorten(Partition(TOPICS.reports, 0), 1)),
    ("acknowledged_commands_are_decided", passed_over),
]


@pytest.mark.parametrize(("rule", "spoil"), FAULTS)
def test_each_fault_is_found(rule: str, spoil: Callable[[Lab], object]) -> None:
    async def scene(lab: Lab) -> None:
        spoil(lab)
        findings, _ = await lab.check()
        assert rule in {finding.rule for finding in findings.kept}, findings.kept

    play(scene)


def test_a_key_that_is_not_the_pool_is_found() -> None:
    async def scene(lab: Lab) -> None:
        entries = lab.cluster.stored[EVENTS]
        first = entries[0]
        assert first is not None
        entries[0] = replace(first, key=b"another-lab")
        findings, _ = await lab.check()
        assert [each.rule for each in findings.kept] == ["a_pool_has_its_partition"]

    play(scene)


def test_a_snapshot_of_another_version_is_not_wrong() -> None:
    async def scene(lab: Lab) -> None:
        lab.alter(TOPICS.snapshots, -1, format="9-of-a-later-version")
        lab.alter(TOPICS.snapshots, -2, format="9-of-a-later-version")
        findings, summary = await lab.check()
        assert (findings.kept, summary.snapshots) == ([], 1)

    play(scene)


def test_an_environment_without_snapshots_is_clean() -> None:
    async def scene(lab: Lab) -> None:
        del lab.cluster.stored[Partition(TOPICS.snapshots, 0)]
        findings, summary = await lab.check()
        assert (findings.kept, summary.snapshots) == ([], 0)

    play(scene)


def test_what_retention_took_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(lab: Lab) -> None:
        taken = {Partition(TOPICS.results, 0): 2, Partition(TOPICS.dlq, 0): 1}
        for partition, begin in taken.items():
            for place in range(begin):
                lab.cluster.stored[partition][place] = None
            kept = lab.cluster.stored[partition]
            for place, record in enumerate(kept):
                if record is not None:
                    kept[place] = replace(record, timestamp=lab.events[-1].meta.occurred_at)

        async def begins(partitions: Any) -> Any:
            return {each: taken.get(each, 0) for each in partitions}

        monkeypatch.setattr(lab.log, "begins", begins)
        findings, _ = await lab.check()
        assert findings.kept == []

    play(scene)


def test_of_many_findings_the_first_are_kept_and_the_rest_counted() -> None:
    async def scene(lab: Lab) -> None:
        for _ in range(FINDINGS_PER_RULE_MAX + 5):
            lab._put(TOPICS.events, b"?", b"lab")
        findings, _ = await lab.check()
        assert len(findings.kept) == FINDINGS_PER_RULE_MAX
        assert findings.left_out == 5

    play(scene)
