"""The whole self-check of an environment: every partition, then what is told of it elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.errors import TopicMissing
from events.log import Log
from events.topics import Topics
from processors.audit.findings import Findings
from processors.audit.inputs import check_inputs
from processors.audit.journal import JournalAudit, Live, Progress
from processors.audit.lives import check_reports
from processors.audit.outcomes import Outlet, check_commands, check_letters, check_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How much was checked."""

    partitions: int
    events: int
    snapshots: int
    live_states: int
    inputs: int
    results: int
    dead_letters: int
    reports: int
    """Heartbeats aside."""


async def audit(
    log: Log,
    topics: Topics,
    findings: Findings,
    *,
    live: Mapping[int, Sequence[Live]],
    progress: Progress | None = None,
) -> Summary:
    """Check everything; what is wrong goes to `findings`. Never writes.

    `live` by partition, asked for before. Raises `LogUnavailable`, `TopicMissing`.
    """
    count = await log.partitions(topics.events)
    results = await Outlet.open(log, topics.results)
    letters = await Outlet.open(log, topics.dlq)
    try:
        snapshots = await log.partitions(topics.snapshots)
    except TopicMissing:  # An environment from before there were any.
        snapshots = 0
    audited = [
        await JournalAudit(log, topics, number, findings).run(
            list(live.get(number, ())), has_snapshots=number < snapshots, progress=progress
        )
        for number in range(count)
    ]
    check_commands(topics, audited, findings)
    inputs = [
        await check_inputs(log, topics, each.partition, each.inputs, findings) for each in audited
    ]
    return Summary(
        partitions=count,
        events=sum(each.events for each in audited),
        snapshots=sum(each.snapshots for each in audited),
        live_states=sum(each.live for each in audited),
        inputs=sum(inputs),
        results=await check_results(results, audited, findings),
        dead_letters=await check_letters(letters, topics, audited, findings),
        reports=await check_reports(log, topics, findings),
    )
