"""Compares what the store keeps with what the journal says of it. Reads every byte.

What is gone is counted, not found wrong: whoever keeps the store may clear it out, and who asks for
such a file is told so. What is there and is not what was kept is wrong.
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from events.codec import decode_event
from events.errors import Undecodable
from events.facts import AttemptFinished
from events.log import Log, Partition
from events.reading import read_until
from events.shared import Artifact
from events.topics import Topics
from processors.artifacts.store import ArtifactDamaged, ArtifactMissing, ArtifactStore
from processors.audit.findings import Findings, about

RULE = "artifacts_are_what_was_kept"


@dataclass(slots=True)
class Scrubbed:
    """How many artifacts were compared, and how many are not there any more."""

    compared: int = 0
    gone: int = 0


async def check_artifacts(
    log: Log,
    topics: Topics,
    store: ArtifactStore,
    findings: Findings,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Scrubbed:
    """Compare each artifact that an attempt's end names with its digest there."""
    partitions = [Partition(topics.events, n) for n in range(await log.partitions(topics.events))]
    begins, ends = await log.begins(partitions), await log.ends(partitions)
    done = Scrubbed()
    for partition in partitions:
        batches = read_until(log, partition, begins[partition], ends[partition])
        async with aclosing(batches):
            async for records in batches:
                for record in records:
                    try:
                        message = decode_event(record.value)
                    except Undecodable:
                        continue  # The journal's own check says so.
                    if not isinstance(message.body, AttemptFinished):
                        continue
                    for artifact in message.body.artifacts:
                        text = await _fault(store, artifact, done)
                        if text:
                            findings.add(about(RULE, text, record, message))
                        progress(done.compared)
    return done


async def _fault(store: ArtifactStore, artifact: Artifact, done: Scrubbed) -> str:
    try:
        async with aclosing(store.open(artifact.uri, sha256=artifact.sha256)) as chunks:
            async for _ in chunks:
                break  # All of it was compared before the first chunk.
    except ArtifactDamaged as error:
        done.compared += 1
        return str(error)
    except ArtifactMissing:
        done.gone += 1
    else:
        done.compared += 1
    return ""
