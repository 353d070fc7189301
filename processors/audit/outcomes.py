"""Compares what CI and operators are told (results, dead letters) with the ends on the journal.

Both are written in the transaction of the end. What retention has taken away is not missed.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.codec import decode
from events.dlq import DeadLetter
from events.errors import Undecodable
from events.log import Log, Partition, Record
from events.reading import read_until
from events.results import ExecutionResult
from events.topics import Topics
from processors.audit.findings import Finding, Findings
from processors.audit.journal import Audited, End
from processors.saga.letters import FOUND_BY
from processors.scheduler.state import EPOCH


@dataclass(slots=True)
class Outlet:
    """A topic that is read up to its end; what came after `known` may have no end yet."""

    log: Log
    partitions: Sequence[Partition]
    known: Mapping[Partition, int]
    """Ends from before the journal was read: what is before them, the journal has."""
    kept_since: datetime = EPOCH
    """Nothing later was taken away by retention."""

    @classmethod
    async def open(cls, log: Log, topic: str) -> "Outlet":
        """To be opened before the journal is read. Raises `TopicMissing`."""
        partitions = [Partition(topic, number) for number in range(await log.partitions(topic))]
        return cls(log, partitions, await log.ends(partitions))

    async def records(self) -> AsyncGenerator[tuple[Record, bool], None]:
        """Yield (record, whether the journal must know of it). To be read after the journal."""
        begins = await self.log.begins(self.partitions)
        ends = await self.log.ends(self.partitions)
        for partition in self.partitions:
            is_first = begins[partition] > 0
            if is_first and begins[partition] == ends[partition]:
                self.kept_since = datetime.max.replace(tzinfo=EPOCH.tzinfo)
            batches = read_until(self.log, partition, begins[partition], ends[partition])
            async with aclosing(batches):
                async for records in batches:
                    for record in records:
                        if is_first:
                            self.kept_since = max(self.kept_since, record.timestamp)
                        is_first = False
                        yield record, record.offset < self.known[partition]


def _decoded(record: Record, findings: Findings) -> Any:
    try:
        return decode(record.value)
    except Undecodable as error:
        findings.add(_about(record, "messages_are_known", str(error)))
        return None


def _about(record: Record, rule: str, text: str, *ids: str) -> Finding:
    return Finding(
        rule=rule,
        text=text,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        ids=tuple(each for each in ids if each),
    )


async def check_results(outlet: Outlet, audited: Sequence[Audited], findings: Findings) -> int:
    """Each finished execution has exactly one result, with its verdict. Return how many."""
    ends = {name: end for each in audited for name, end in each.ends.items()}
    began = {each.partition: each.begun_anew_at for each in audited}
    told: set[str] = set()
    async with aclosing(outlet.records()) as records:
        async for record, must_be_known in records:
            result = _decoded(record, findings)
            if not isinstance(result, ExecutionResult):
                continue
            name = result.execution_id
            end = ends.get(name)
            if name in told:
                text = f"execution {name} has a second result"
            elif end is None and result.finished_at < began.get(result.journal_partition, EPOCH):
                continue  # It is of a journal that was lost, and everybody knows.
            elif end is None and must_be_known:
                text = f"execution {name} has a result, and no end on the journal"
            elif end is not None and end.verdict != result.verdict:
                text = f"execution {name} ended {end.verdict}, its result says {result.verdict}"
            else:
                text = ""
            if text:
                findings.add(_about(record, "results_are_the_ends", text, name, result.result_id))
            told.add(name)
    topic = outlet.partitions[0].topic
    _miss(ends, told, outlet.kept_since, findings, "results_are_the_ends", f"result on {topic}")
    return len(told)


def check_commands(topics: Topics, audited: Sequence[Audited], findings: Findings) -> None:
    """A command has its outcome in one partition: its id is of one pool."""
    where: dict[str, int] = {}
    for each in audited:
        for command_id, seq in each.commands.items():
            first = where.setdefault(command_id, each.partition)
            if first != each.partition:
                findings.add(
                    Finding(
                        rule="one_outcome_per_command",
                        text=f"command {command_id} is decided in partition {first} too",
                        topic=topics.events,
                        partition=each.partition,
                        seq=seq,
                        ids=(command_id,),
                    )
                )


async def check_letters(
    outlet: Outlet, topics: Topics, audited: Sequence[Audited], findings: Findings
) -> int:
    """Each execution that the lab gave up, and each input set aside, has its one dead letter.

    Return how many there are.
    """
    ends = {
        name: end for each in audited for name, end in each.ends.items() if end.verdict == "error"
    }
    aside = {key: at for each in audited for key, at in each.set_aside.items()}
    due = ends.keys() | {input_name(*key) for key in aside}
    began = max((each.begun_anew_at for each in audited), default=EPOCH)
    told: set[str] = set()
    async with aclosing(outlet.records()) as records:
        async for record, must_be_known in records:
            letter = _decoded(record, findings)
            if not isinstance(letter, DeadLetter) or letter.found_by != FOUND_BY:
                continue
            name = _subject(letter)
            if name in told:
                text = f"{name} has a second dead letter"
            elif name not in due and letter.found_at < began:
                continue
            elif name not in due and must_be_known:
                text = f"{name} has a dead letter, and the journal does not say why"
            else:
                text = ""
            if text:
                findings.add(_about(record, "letters_are_the_ends", text, name))
            told.add(name)
    _miss(ends, told, outlet.kept_since, findings, "letters_are_the_ends", "dead letter")
    for key, at in aside.items():
        if input_name(*key) not in told and at > outlet.kept_since:
            text = f"{input_name(*key)} was set aside and has no dead letter"
            findings.add(
                Finding(
                    rule="letters_are_the_ends", text=text, topic=topics.events, partition=key[1]
                )
            )
    return len(told)


def input_name(topic: str, partition: int, offset: int) -> str:
    """Return how a record is named in findings."""
    return f"{topic}[{partition}]@{offset}"


def _subject(letter: DeadLetter) -> str:
    if letter.kind == "execution":
        return letter.execution_id or ""
    return input_name(letter.source_topic, letter.source_partition, letter.source_offset)


def _miss(
    ends: Mapping[str, End],
    told: set[str],
    since: datetime,
    findings: Findings,
    rule: str,
    what: str,
) -> None:
    for name, end in ends.items():
        if name not in told and end.at > since:
            findings.add(
                Finding(
                    rule=rule,
                    text=f"execution {name} ended {end.verdict} and has no {what}",
                    topic="",
                    partition=end.partition,
                    offset=end.offset,
                    seq=end.seq,
                    ids=(name,),
                )
            )
