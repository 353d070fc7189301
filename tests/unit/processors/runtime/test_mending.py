"""What operators do to a partition: it is on the journal, it works, and it hides no fact."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from events import facts
from events.codec import decode, decode_event, encode
from events.errors import JournalBehind, JournalBroken
from events.ids import event_id
from events.log import Noted, Outgoing, Partition, Record
from events.message import EventMessage
from events.quarantine import digest_of
from processors.audit.audit import audit
from processors.audit.findings import Findings
from processors.runtime.carried import benches_told
from processors.runtime.mending import (
    By,
    NotMended,
    accept_inputs,
    begin_anew,
    quarantine,
    refuse_whole,
)
from processors.runtime.recovery import recover, resume
from processors.runtime.standing import STILL_WAIT_S
from tests.sim.memory_log import MemoryLog, MemoryReader
from tests.unit.processors.runtime.test_inputs import COMMANDS, begun, check, decided
from tests.unit.processors.runtime.test_outage import TOPICS, Lab, passed, play
from tests.unit.processors.scheduler.history import benches, started, submit

EVENTS = Partition(TOPICS.events, 0)
BY = By(actor="operator:ann@rack", reason="a stray test wrote there")


def journal(lab: Lab) -> list[Record]:
    return lab.cluster.records(TOPICS.events, 0)


def last(lab: Lab) -> EventMessage:
    return decode_event(journal(lab)[-1].value)


def forged(lab: Lab, **meta: Any) -> bytes:
    """An event that looks like the last one, and is none."""
    message = last(lab)
    return encode(replace(message, meta=replace(message.meta, **meta)))


JUNK: dict[str, Callable[[Lab], Outgoing]] = {
    "bytes": lambda _: Outgoing(topic=TOPICS.events, key=b"lab", value=b"junk"),
    "null": lambda _: Outgoing(topic=TOPICS.events, key=b"lab", value=None),
    "later version": lambda _: Outgoing(
        topic=TOPICS.events, key=b"lab", value=b"\x00\x7f\xff\xff\xff?"
    ),
    "wrong seq": lambda lab: Outgoing(
        topic=TOPICS.events, key=b"lab", value=forged(lab, seq=900, event_id="x")
    ),
    "wrong id": lambda lab: Outgoing(
        topic=TOPICS.events,
        key=b"lab",
        value=forged(lab, seq=last(lab).meta.seq + 1, event_id="x", index=0, count=1),
    ),
    "copy": lambda lab: Outgoing(topic=TOPICS.events, key=b"lab", value=journal(lab)[-1].value),
    "another pool": lambda lab: Outgoing(
        topic=TOPICS.events, key=b"zoo", value=forged(lab, pool="zoo", event_id="x")
    ),
}


async def clean(lab: Lab) -> None:
    findings = Findings()
    await audit(lab.log, TOPICS, findings, live={})
    assert findings.kept == []


@pytest.mark.parametrize("kind", JUNK)
def test_what_no_scheduler_wrote_is_passed_over_and_the_partition_goes_on(kind: str) -> None:
    async def scene(lab: Lab) -> None:
        owner = await begun(lab, 3)
        offset = lab.cluster.put(replace(JUNK[kind](lab), partition=0)).offset
        lab.ask(benches("after"))
        await asyncio.sleep(12.0)
        assert (owner.standing.state, owner.standing.code) == ("broken", "journal_broken")
        step = f"quarantine-record --partition 0 --offset {offset}"
        assert step in owner.standing.detail
        [named] = await quarantine(lab.log, TOPICS, 0, [offset], BY)
        assert named.offset == offset
        fact = last(lab)
        assert (fact.meta.actor, fact.body) == (BY.actor, named)
        await asyncio.sleep(12.0)
        assert owner.standing.state == "serving"
        assert decided(lab)[-1] == "c3"
        assert (await resume(lab.log, TOPICS, 0)).ledger == await recover(lab.log, EVENTS)
        await clean(lab)

    play(scene)


def test_several_are_named_at_once_because_the_rest_must_be_whole() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 2)
        await lab.stop()
        junk = [replace(JUNK[kind](lab), partition=0) for kind in ("bytes", "wrong seq")]
        offsets = [lab.cluster.put(each).offset for each in junk]
        for one in offsets:
            with pytest.raises(JournalBroken, match="quarantine-record"):
                await quarantine(lab.log, TOPICS, 0, [one], BY)
        await quarantine(lab.log, TOPICS, 0, offsets, BY)
        lab.start()
        lab.ask(benches("after"))
        await asyncio.sleep(5.0)
        assert decided(lab)[-1] == "c2"
        await clean(lab)

    play(scene)


def test_of_a_range_whatever_is_no_fact_is_named() -> None:
    """As somebody who mirrors another topic writes it: many, and facts between them."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 2)
        await lab.stop()
        put = [lab.cluster.put(replace(JUNK["bytes"](lab), partition=0)).offset for _ in range(3)]
        await quarantine(lab.log, TOPICS, 0, put, BY)
        lab.start()
        lab.ask(benches("between"))
        await asyncio.sleep(5.0)
        await lab.stop()
        junk = [replace(JUNK[kind](lab), partition=0) for kind in JUNK]
        more = [lab.cluster.put(each).offset for each in junk]
        last = len(lab.cluster.stored[EVENTS])
        named = await quarantine(lab.log, TOPICS, 0, [], BY, among=frozenset(range(last)))
        assert [each.offset for each in named] == more, "the others are named already"
        with pytest.raises(NotMended, match="is whole"):
            await quarantine(lab.log, TOPICS, 0, [], BY, among=frozenset({last + 50}))
        await clean(lab)

    play(scene)


class SlowLog(MemoryLog):
    """As one reads a long journal."""

    async def open_reader(self, starts: Mapping[Partition, int]) -> MemoryReader:
        await asyncio.sleep(STILL_WAIT_S + 1.0)
        return await super().open_reader(starts)


@pytest.mark.parametrize("at_s", [0.0, 1.0, 4.9])
def test_an_owner_that_stands_still_keeps_nobody_from_mending(at_s: float) -> None:
    """It takes its partition over every few seconds, whatever an operator is about to do; here he
    reads for longer than that."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 3)
        offset = lab.cluster.put(replace(JUNK["bytes"](lab), partition=0)).offset
        owner = lab.start()
        await asyncio.sleep(6.0 + at_s)
        assert owner.standing.state == "broken"
        await quarantine(SlowLog(lab.cluster, "operator"), TOPICS, 0, [offset], BY)
        await asyncio.sleep(12.0)
        assert owner.standing.state == "serving"

    play(scene)


def the_last(lab: Lab) -> int:
    return journal(lab)[-1].offset


def the_first(lab: Lab) -> int:
    return journal(lab)[0].offset


def behind_a_hole(lab: Lab) -> int:
    """The last fact, after one before it was lost."""
    entries = lab.cluster.stored[EVENTS]
    entries[journal(lab)[-2].offset] = None
    return the_last(lab)


def of_a_later_version(lab: Lab) -> int:
    """The last fact, as a version that does not know its schema sees it."""
    entries = lab.cluster.stored[EVENTS]
    record = journal(lab)[-1]
    entries[record.offset] = replace(record, value=b"\x00\x7f\xff\xff\xff a later fact")
    return record.offset


def decided_by_another(lab: Lab) -> int:
    """A second fact with the number of one that is there: two schedulers decided."""
    meta = last(lab).meta
    at = meta.occurred_at.replace(microsecond=7_000)
    value = forged(lab, occurred_at=at, event_id=event_id(at, 0, meta.seq))
    put = Outgoing(topic=TOPICS.events, key=b"lab", value=value, partition=0)
    return lab.cluster.put(put).offset


@pytest.mark.parametrize(
    "fact", [the_first, the_last, behind_a_hole, of_a_later_version, decided_by_another]
)
def test_no_fact_can_be_hidden(fact: Callable[[Lab], int]) -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 4)
        await lab.stop()
        offset = fact(lab)
        before = list(lab.cluster.stored[EVENTS])
        with pytest.raises((NotMended, JournalBroken)):
            await quarantine(lab.log, TOPICS, 0, [offset], BY)
        assert lab.cluster.stored[EVENTS] == before, "nothing was written"

    play(scene)


@pytest.mark.parametrize("fact", [the_last, of_a_later_version])
def test_a_fact_is_not_passed_over_even_if_a_record_names_it(fact: Callable[[Lab], int]) -> None:
    """Somebody writes the fact of the quarantine himself, with the right id and number."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 4)
        await lab.stop()
        message = last(lab)
        offset = fact(lab)
        seq = message.meta.seq + (fact is the_last)
        digest = digest_of(journal(lab)[-1])
        meta = replace(
            message.meta,
            seq=seq,
            event_id=event_id(message.meta.occurred_at, 0, seq),
            input_topic="",
            input_offset=-1,
            request_hash="",
        )
        named = facts.RecordQuarantined(offset=offset, sha256=digest, reason="mine")
        value = encode(replace(message, meta=meta, body=named))
        lab.cluster.put(Outgoing(topic=TOPICS.events, key=b"lab", value=value, partition=0))
        findings = Findings()
        await audit(lab.log, TOPICS, findings, live={})
        found = {each.rule for each in findings.kept}
        assert "quarantined_records_are_no_facts" in found
        if fact is the_last:
            assert (await recover(lab.log, EVENTS)).seq == seq + 1, "all is folded in"
        else:
            with pytest.raises(JournalBroken):
                await recover(lab.log, EVENTS)

    play(scene)


def test_accepted_inputs_go_on_from_where_they_end() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        lab.cluster.copies = 3
        lab.cluster.shorten(COMMANDS, 2)
        await lab.settled(8.0)
        assert decided(lab) == [f"c{number}" for number in range(5)]
        [reset] = await accept_inputs(lab.log, TOPICS, 0, BY)
        assert (reset.next_offset, reset.was_offset) == (3, 5)
        assert reset.reason.endswith(f"accepted: {BY.reason}")
        lab.ask(benches("after"))
        await lab.settled(12.0)
        assert decided(lab)[5:] == ["c5"]
        check(lab)
        await clean(lab)
        assert await accept_inputs(lab.log, TOPICS, 0, BY) == []

    play(scene)


def test_a_journal_begun_anew_runs_nothing_again_and_keeps_fences() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 2)
        lab.report(started())
        for number in range(3):
            lab.ask(submit(f"e{number}"))
        await lab.settled()
        await lab.stop()
        fences = {
            bench.spec.name: bench.fence
            for bench in (await recover(lab.log, EVENTS)).pools["lab"].benches.values()
        }
        assert max(fences.values()) > 0
        lab.cluster.make_anew(TOPICS.events)
        carried = await benches_told(lab.log, TOPICS, 0)
        assert {each.spec.name: each.fence for each in carried["lab"]} == {
            name: fence for name, fence in fences.items() if fence
        }
        owner = lab.start()
        await lab.settled(8.0)
        assert owner.standing.code == "journal_behind"
        assert journal(lab) == [], "nothing is decided on a journal that lost facts"
        await begin_anew(lab.log, TOPICS, 0, carried, BY, lab.cluster.now())
        await lab.settled(12.0)
        assert owner.standing.state == "serving"
        assert decided(lab) == [], "what was decided may not be decided again"
        lab.ask(benches("later"))
        await lab.settled()
        assert len(decided(lab)) == 1
        ledger = await recover(lab.log, EVENTS)
        for name, fence in fences.items():
            if fence:
                bench = ledger.pools["lab"].benches[name]
                assert (bench.fence, bool(bench.quarantine)) == (fence, True)
        check(lab)
        await clean(lab)
        with pytest.raises(NotMended, match="is not begun anew"):
            await begin_anew(lab.log, TOPICS, 0, {}, BY, lab.cluster.now())

    play(scene)


def test_a_whole_journal_is_not_begun_anew_and_one_that_was_begun_in_part_is() -> None:
    async def scene(lab: Lab) -> None:
        await refuse_whole(lab.log, TOPICS)  # It has no facts: the operator knows.
        await begun(lab, 3)
        await lab.stop()
        with pytest.raises(NotMended, match="there is nothing to begin anew"):
            await refuse_whole(lab.log, TOPICS)
        lab.cluster.make_anew(TOPICS.events)
        await begin_anew(lab.log, TOPICS, 0, {}, BY, lab.cluster.now())
        await refuse_whole(lab.log, TOPICS)  # Other partitions may be left to be begun anew.

    play(scene)


def deleted_whole(lab: Lab) -> None:
    """Retention, or an operator, took every record; the topic is the same one."""
    lab.cluster.delete_before(EVENTS, len(lab.cluster.stored[EVENTS]))


def made_anew(lab: Lab) -> None:
    """By a tool of Kafka's, or a broker that makes topics by itself."""
    lab.cluster.make_anew(TOPICS.events)


@pytest.mark.parametrize("lose", [deleted_whole, made_anew])
def test_an_empty_journal_is_no_new_one_where_nothing_ever_ran(lose: Callable[[Lab], None]) -> None:
    """Reservations only: no result, task, letter or snapshot tells that there were facts."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 4)
        noted = {
            Partition(topic, 0): Noted(4, json.dumps({"state": "serving", "seq": 9}))
            for topic in TOPICS.inputs
        }
        lab.cluster.notes[TOPICS.scheduler_group] = noted
        await lab.stop()
        lose(lab)
        owner = lab.start()
        await lab.settled(8.0)
        assert (owner.standing.state, owner.standing.code) == ("broken", "journal_behind")
        assert "begin-anew" in owner.standing.detail
        assert journal(lab) == [], "nothing is decided again"
        findings = Findings()
        await audit(lab.log, TOPICS, findings, live={})
        assert [each.rule for each in findings.kept] == ["journal_is_kept"]
        [told] = {each.text for each in owner.standing.notes().values()}
        assert json.loads(told)["seq"] == 9, "the next owner is told as well"
        await begin_anew(lab.log, TOPICS, 0, {}, BY, lab.cluster.now())
        lab.ask(benches("later"))
        await lab.settled(12.0)
        assert (owner.standing.state, owner.standing.seq) == ("serving", 4)
        assert len(decided(lab)) == 1, "what was there before is not decided"
        await clean(lab)

    play(scene)


def test_a_journal_whose_beginning_is_gone_says_so() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 4)
        await lab.stop()
        lab.cluster.delete_before(EVENTS, journal(lab)[1].offset)
        owner = lab.start()
        await lab.settled(8.0)
        assert owner.standing.code == "journal_broken"
        assert "its beginning is gone" in owner.standing.detail
        assert "quarantine-record" not in owner.standing.detail

    play(scene)


def test_snapshots_of_the_journal_before_stop_no_journal_that_was_begun_anew() -> None:
    """As if the verb was killed before it made their topic anew."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 4, snapshot_every=2)
        assert lab.cluster.records(TOPICS.snapshots, 0)
        await lab.stop()
        lab.cluster.make_anew(TOPICS.events)
        with pytest.raises(JournalBehind):
            await resume(lab.log, TOPICS, 0)
        await begin_anew(lab.log, TOPICS, 0, {}, BY, lab.cluster.now())
        assert (await resume(lab.log, TOPICS, 0)).ledger == await recover(lab.log, EVENTS)

    play(scene)


def _other_result(record: Record) -> bytes:
    told = decode(record.value)
    return encode(replace(told, result_id="x", execution_id="exe-x", journal_seq=9_999))


def _other_letter(record: Record) -> bytes:
    told = decode(record.value)
    return encode(replace(told, execution_id="exe-x", source_offset=9_999))


def _other_order(record: Record) -> bytes:
    told = decode(record.value)
    meta, body = replace(told.meta, task_id="x"), replace(told.body, fence=9_999)
    return encode(replace(told, meta=meta, body=body))


@pytest.mark.parametrize(
    ("topic", "kind", "forge"),
    [
        (TOPICS.results, b"ExecutionResult", _other_result),
        (TOPICS.dlq, b"DeadLetter", _other_letter),
        (TOPICS.tasks, b"RunAttempt", _other_order),
    ],
)
def test_what_no_scheduler_told_stops_no_partition(
    topic: str, kind: bytes, forge: Callable[[Record], bytes]
) -> None:
    """Somebody writes to a topic as if the journal had more than it has."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 2)
        lab.report(started())
        lab.ask(submit("e0", retries=0))
        await lab.settled()
        lab.report(replace(passed("e0"), verdict="error", code="worker_fault", teardown_error=""))
        await lab.settled()
        [told, *_] = [r for r in lab.cluster.records(topic, 0) if r.headers["ce_type"] == kind]
        await lab.stop()
        value = forge(told)
        lab.cluster.put(Outgoing(topic=topic, key=told.key, value=value, headers=told.headers))
        owner = lab.start()
        await lab.settled(8.0)
        assert owner.standing.state == "serving", owner.standing.detail
        assert all(each.fence < 9_999 for each in (await benches_told(lab.log, TOPICS, 0))["lab"])

    play(scene)


def test_a_partition_that_is_not_there_is_refused_at_once() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 1)
        with pytest.raises(NotMended, match="and no 7"):
            await quarantine(lab.log, TOPICS, 7, [1], BY)
        with pytest.raises(NotMended, match="and no 7"):
            await accept_inputs(lab.log, TOPICS, 7, BY)

    play(scene)
