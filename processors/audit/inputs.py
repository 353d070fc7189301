"""Compares the topics of inputs with what the journal was decided from. Never writes.

What retention took away is not missed; nor is what a fact says was lost (`InputsReset`).
"""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from events import facts
from events.log import Log, Partition, Record
from events.message import EventMessage
from events.reading import read_until
from events.topics import Topics
from processors.audit.findings import Finding, Findings
from processors.runtime.inputs import input_id, is_input

THEY_ARE = "inputs_are_those_decided"
THEY_COUNT = "acknowledged_commands_are_decided"


@dataclass(slots=True)
class Decided:
    """Which inputs the journal of one partition was decided from."""

    begins: dict[str, int] = field(default_factory=dict)
    """What is before, retention has taken: it is not kept here either."""
    at: dict[str, dict[int, str]] = field(default_factory=dict)
    """By topic and offset the id of the input; empty: the journal does not say."""
    commands: set[str] = field(default_factory=set)
    """Ids of the commands that have an outcome."""
    positions: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    """For each topic the offset before which inputs were passed over, and a fact says so."""

    def see(self, message: EventMessage) -> None:
        """Take the next event of the journal."""
        meta, body = message.meta, message.body
        if isinstance(body, facts.InputsReset):
            self._reset(body)
        if not meta.input_topic:
            return
        self.positions[meta.input_topic] = meta.input_offset
        if meta.request_hash:
            self.commands.add(meta.causation_id)
        if meta.input_offset >= self.begins.get(meta.input_topic, 0):
            self.at.setdefault(meta.input_topic, {})[meta.input_offset] = meta.causation_id

    def _reset(self, body: facts.InputsReset) -> None:
        self.positions[body.topic] = body.next_offset - 1
        known = self.at.get(body.topic, {})
        for offset in [each for each in known if each >= body.next_offset]:
            del known[offset]
        if body.next_offset > body.was_offset:
            self.passed[body.topic] = body.next_offset


async def check_inputs(
    log: Log, topics: Topics, number: int, decided: Decided, findings: Findings
) -> int:
    """Each decided input that is kept is the one the journal names, and no command is left out.

    To be called once the journal is read. Return how many inputs were looked at.
    """
    seen = 0
    for topic in (topics.commands, topics.reports):
        partition = Partition(topic, number)
        begin = (await log.begins([partition]))[partition]
        end = (await log.ends([partition]))[partition]
        due = decided.positions.get(topic, -1) + 1
        if end < due:
            text = f"the journal was decided from inputs up to offset {due - 1}, it ends at {end}"
            findings.add(Finding(rule=THEY_ARE, text=text, topic=topic, partition=number))
        async with aclosing(read_until(log, partition, begin, min(end, due))) as batches:
            async for records in batches:
                for record in records:
                    seen += 1
                    for rule, text in _faults(record, decided, is_command=topic == topics.commands):
                        findings.add(_about(rule, text, record))
    return seen


def _faults(record: Record, decided: Decided, *, is_command: bool) -> Iterator[tuple[str, str]]:
    known = decided.at.get(record.topic, {}).get(record.offset)
    if known is not None:
        if known and not is_input(record, known):
            yield THEY_ARE, f"the journal was decided from {known} there, not {input_id(record)}"
    elif is_command and record.offset >= decided.passed.get(record.topic, 0):
        name = input_id(record)
        if name not in decided.commands:
            yield THEY_COUNT, f"command {name} was passed over: it has no outcome on the journal"


def _about(rule: str, text: str, record: Record) -> Finding:
    return Finding(
        rule=rule, text=text, topic=record.topic, partition=record.partition, offset=record.offset
    )
