"""What must be true of the real things a chaos run leaves behind, beside the journal's own rules.

Each checker raises `Violated` and needs nothing but data, so that a violated history can be fed
to it.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from events import facts
from events.message import EventMessage
from tests.chaos.clients import Ack
from tests.sim.checkers import Violated

GONE_SLACK_S = 2.0
"""How long after the end of an attempt is on the journal a process seen may be a late look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """One test's presence on a bench, as it marked it itself; times of one monotonic clock."""

    bench: str
    execution_id: str
    attempt: int
    fence: int
    pid: int
    start_s: float
    last_s: float
    """Its last sign of life: it may have lived on a little."""
    clash: str = ""
    """Whose test still held the bench when this one came; empty: nobody's."""
    sha256: str = ""
    """Of the file it left as an artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A living process of an attempt."""

    execution_id: str
    attempt: int
    pid: int
    at_s: float
    """Wall clock, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the artifact store holds, as it was read back."""

    sha256: str
    size_bytes: int


def no_two_tests_on_a_bench(drives: Iterable[Drive]) -> None:
    """A bench is driven by one test at a time (invariants 1, 4, 6)."""
    by_bench: dict[str, list[Drive]] = defaultdict(list)
    for drive in drives:
        if drive.clash:
            raise Violated(f"{drive} began while {drive.clash} still held the bench")
        by_bench[drive.bench].append(drive)
    for bench, found in by_bench.items():
        found.sort(key=lambda drive: drive.start_s)
        for before, after in itertools.pairwise(found):
            if after.start_s < before.last_s:
                raise Violated(f"two tests on {bench} at a time: {before} and {after}")
            if after.fence <= before.fence:
                raise Violated(f"fences of {bench} do not rise: {before} and {after}")


def attempts_run_once(drives: Iterable[Drive]) -> None:
    """No attempt was started twice, and none for another bench than the journal's."""
    seen: set[tuple[str, int]] = set()
    for drive in drives:
        key = (drive.execution_id, drive.attempt)
        if key in seen:
            raise Violated(f"started twice: {drive}")
        seen.add(key)


def drives_were_assigned(drives: Iterable[Drive], events: Iterable[EventMessage]) -> None:
    """Whatever drove a bench was told to: same bench, attempt and fence on the journal."""
    assigned = {
        (each.execution_id, each.attempt): (f"{message.meta.pool}.{each.bench}", each.fence)
        for message in events
        if isinstance(each := message.body, facts.ExecutionAssigned)
    }
    for drive in drives:
        if assigned.get((drive.execution_id, drive.attempt)) != (drive.bench, drive.fence):
            raise Violated(f"never assigned like this: {drive}")


def acknowledged_commands_have_one_outcome(
    acks: Iterable[Ack], events: Iterable[EventMessage]
) -> None:
    """What a client was told is what the journal says, once."""
    first = [m for m in events if m.meta.index == 0 and m.meta.request_hash]
    outcomes = Counter(message.meta.causation_id for message in first)
    bodies = {message.meta.causation_id: message.body for message in first}
    for ack in acks:
        count = outcomes[ack.command_id]
        if count != 1:
            raise Violated(f"{count} outcomes of {ack}")
        body = bodies[ack.command_id]
        if ack.status == 202:
            continue
        code = body.code if isinstance(body, facts.CommandRejected) else ""
        if code != ack.code:
            raise Violated(f"{ack} was told, the journal says {body}")


def one_key_is_one_command(acks: Iterable[Ack]) -> None:
    """Whoever repeats a key in a pool is told of one command; other pools have their own."""
    told: dict[tuple[str, str, str], str] = {}
    owners: dict[str, tuple[str, str, str]] = {}
    for ack in acks:
        if not (ack.key and ack.pool):
            continue
        scope = (ack.actor, ack.key, ack.pool)
        if told.setdefault(scope, ack.command_id) != ack.command_id:
            raise Violated(f"{ack}: the same key was told of {told[scope]} before")
        if owners.setdefault(ack.command_id, scope) != scope:
            raise Violated(f"{ack}: its command is that of {owners[ack.command_id]} too")


def executions_end_in_one_verdict(
    executions: Iterable[str], events: Iterable[EventMessage]
) -> None:
    """Each accepted execution has exactly one verdict once all has settled."""
    submitted = set(executions)
    ends: Counter[str] = Counter()
    for message in events:
        match message.body:
            case facts.ExecutionSubmitted() as body:
                submitted.add(body.execution_id)
            case facts.ExecutionFinished() as body:
                ends[body.execution_id] += 1
    for execution_id in sorted(submitted):
        if ends[execution_id] != 1:
            raise Violated(f"execution {execution_id} has {ends[execution_id]} verdicts")


def no_process_outlives_its_attempt(
    sightings: Iterable[Sighting], events: Iterable[EventMessage]
) -> None:
    """Once the end of an attempt is on the journal, nothing of it is alive."""
    ended = {
        (body.execution_id, body.attempt): message.meta.occurred_at.timestamp()
        for message in events
        if isinstance(body := message.body, facts.AttemptFinished)
    }
    for seen in sightings:
        end_s = ended.get((seen.execution_id, seen.attempt))
        if end_s is not None and seen.at_s > end_s + GONE_SLACK_S:
            raise Violated(f"{seen} is alive {seen.at_s - end_s:.1f} s after its attempt ended")


def artifacts_are_what_they_were(
    events: Sequence[EventMessage], store: Mapping[str, Stored], drives: Iterable[Drive]
) -> None:
    """The store holds each artifact named on the journal, byte for byte, as the test wrote it."""
    written = {(each.execution_id, each.attempt): each.sha256 for each in drives if each.sha256}
    for message in events:
        if not isinstance(body := message.body, facts.AttemptFinished):
            continue
        for artifact in body.artifacts:
            found = store.get(artifact.uri)
            if found is None:
                raise Violated(f"{artifact} of {body.execution_id} is not in the store")
            if found != Stored(sha256=artifact.sha256, size_bytes=artifact.size_bytes):
                raise Violated(f"{artifact} of {body.execution_id}: the store has {found}")
            # Without a mark the test did not come to the end of writing it: nothing is claimed.
            wrote = written.get((body.execution_id, body.attempt), found.sha256)
            if artifact.path.endswith("data.bin") and wrote != found.sha256:
                raise Violated(f"{artifact} of {body.execution_id}: the test wrote {wrote}")


def are_equal(fingerprints: Mapping[str, str]) -> None:
    """All projections of one log show the same."""
    if len(set(fingerprints.values())) > 1:
        raise Violated(f"projections differ: {dict(fingerprints)}")
