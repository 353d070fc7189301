"""What a self-check found wrong, and where. Data, and a limit on how much of it is kept."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from events.codec import type_name
from events.log import Record
from events.message import EventMessage

FINDINGS_PER_RULE_MAX = 20
"""For each partition: a broken rule may break at every event that follows; the rest is counted."""
_SUBJECTS = ("execution_id", "reservation_id", "holder_id", "bench", "worker", "letter_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `offset` and `seq` are -1 where they say nothing."""

    rule: str
    text: str
    topic: str
    partition: int
    offset: int = -1
    seq: int = -1
    ids: tuple[str, ...] = ()
    """What it is about: type and id of the event, its pool, and whom it names."""


@dataclass(slots=True)
class Findings:
    """All that was found, with a limit for each rule and partition."""

    tell: Callable[[Finding], None] = lambda _: None
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often, by rule and partition: also what is not kept."""

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        key = (finding.rule, finding.partition)
        self.counts[key] += 1
        if self.counts[key] <= FINDINGS_PER_RULE_MAX:
            self.kept.append(finding)
            self.tell(finding)

    @property
    def left_out(self) -> int:
        """How many are counted only."""
        return self.counts.total() - len(self.kept)


def ids_of(message: EventMessage) -> tuple[str, ...]:
    """Return what an event is about, for a person who looks for it."""
    subjects = [str(getattr(message.body, name, "") or "") for name in _SUBJECTS]
    found = [type_name(message), message.meta.event_id, message.meta.pool, *subjects]
    return tuple(each for each in found if each)


def about(rule: str, text: str, record: Record, message: EventMessage | None) -> Finding:
    """Return a finding about one record of the journal."""
    return Finding(
        rule=rule,
        text=text,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        seq=-1 if message is None else message.meta.seq,
        ids=() if message is None else ids_of(message),
    )
