"""Judges a chaos run by what is on the log, on disk and in the process table."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from events import facts
from events.log import Log, Partition
from events.message import EventMessage
from events.topics import Topics
from processors.runtime.recovery import recover
from tests.chaos import evidence
from tests.chaos.checkers import (
    Sighting,
    acknowledged_commands_have_one_outcome,
    are_equal,
    artifacts_are_what_they_were,
    attempts_run_once,
    drives_were_assigned,
    executions_end_in_one_verdict,
    no_process_outlives_its_attempt,
    no_two_tests_on_a_bench,
    one_key_is_one_command,
)
from tests.chaos.clients import History
from tests.sim.checkers import Violated, check_commands, check_journal, check_results


@dataclass(slots=True, kw_only=True)
class Judged:
    """What was judged, and found right."""

    events: int
    commands: int
    drives: int
    artifacts: int
    sightings: int
    verdicts: Mapping[str, int]
    attempts: Mapping[str, int]
    codes: Mapping[str, int]
    took_s: float

    def lines(self) -> list[str]:
        """Return the summary, line by line."""

        def of(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{n} {what or '-'}" for what, n in sorted(counts.items()))

        return [
            f"  journal: {self.events} events, dense and whole; {self.commands} commands decided",
            f"  executions: {of(self.verdicts)}; attempts: {of(self.attempts)}",
            f"  ends of attempts that were errors of the lab: {of(self.codes)}",
            f"  benches: {self.drives} tests drove them, never two at a time;"
            f" {self.sightings} processes seen, none after its attempt",
            f"  artifacts: {self.artifacts}, each equal to its sha256",
            "  the fold is the live state, and all projections are equal",
            f"  judged in {self.took_s:.1f} s: no violation",
        ]


async def judge(
    log: Log,
    topics: Topics,
    *,
    history: History,
    marks: Path,
    artifacts: Path,
    databases: Mapping[str, Path],
    sightings: Sequence[Sighting],
) -> Judged:
    """Check every rule but that of the live state, which `fsck` saw. Raises `Violated`."""
    started_s = time.monotonic()
    journals = await evidence.journals(log, topics)
    for number, journal in enumerate(journals):
        check_journal(journal)
        await _fold_is_repeatable(log, topics, number, journal)
    check_commands(journals)
    events = [message for journal in journals for message in journal]
    check_results(events, await evidence.results(log, topics))
    acknowledged_commands_have_one_outcome(history.acks, events)
    one_key_is_one_command(history.acks)
    executions_end_in_one_verdict(history.executions, events)
    drives = evidence.drives(marks)
    no_two_tests_on_a_bench(drives)
    attempts_run_once(drives)
    drives_were_assigned(drives, events)
    no_process_outlives_its_attempt(sightings, events)
    store = await evidence.stored(artifacts, events)
    artifacts_are_what_they_were(events, store, drives)
    prints = {name: await evidence.projected(log, topics, path) for name, path in databases.items()}
    prints |= {f"fresh-{n}": await evidence.projected(log, topics, None) for n in (1, 2)}
    are_equal(prints)
    bodies = [message.body for message in events]
    attempts = [body for body in bodies if isinstance(body, facts.AttemptFinished)]
    ends = [body for body in bodies if isinstance(body, facts.ExecutionFinished)]
    return Judged(
        events=len(events),
        commands=sum(1 for m in events if m.meta.index == 0 and m.meta.request_hash),
        drives=len(drives),
        artifacts=len(store),
        sightings=len(sightings),
        verdicts=Counter(body.verdict for body in ends),
        attempts=Counter(body.verdict for body in attempts),
        codes=Counter(body.code for body in attempts if body.verdict == "error"),
        took_s=time.monotonic() - started_s,
    )


async def _fold_is_repeatable(
    log: Log, topics: Topics, number: int, journal: Sequence[EventMessage]
) -> None:
    first, second = [await recover(log, Partition(topics.events, number)) for _ in range(2)]
    if first != second or first.seq != len(journal):
        raise Violated(f"partition {number}: two folds of {len(journal)} events differ")
