"""Reads what a chaos run left: marks of tests, processes, artifacts, journals, projections."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from events import facts
from events.codec import decode, decode_event
from events.log import Log, Partition
from events.message import EventMessage
from events.results import ExecutionResult
from events.topics import Topics
from processors.artifacts.files import FileStore
from processors.artifacts.store import ArtifactMissing
from projections.rebuild import fingerprint
from projections.store import Store
from projections.tail import Tail, fill
from tests.chaos.checkers import Drive, Sighting, Stored
from tests.on_log import read_all, read_parts

LOOK_S = 1.0


def drives(marks: Path) -> list[Drive]:
    """Return what the tests marked. A test killed before its first mark drove nothing."""
    found = []
    for path in sorted(marks.glob("*.drive")):
        facts_of: list[dict[str, object]] = []
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # The last line of a killed test may be cut.
                facts_of.append(json.loads(line))
        runs: dict[object, list[dict[str, object]]] = {}
        for fact in facts_of:
            runs.setdefault(fact["pid"], []).append(fact)
        found += [_drive(run) for run in runs.values()]
    return found


def _drive(run: Sequence[dict[str, object]]) -> Drive:
    first = run[0]
    return Drive(
        bench=str(first["bench"]),
        execution_id=str(first["execution_id"]),
        attempt=int(str(first["attempt"])),
        fence=int(str(first["fence"])),
        pid=int(str(first["pid"])),
        start_s=float(str(first["at_s"])),
        last_s=float(str(run[-1]["at_s"])),
        clash="".join(str(fact["holder"]) for fact in run if fact["what"] == "clash"),
        sha256="".join(str(fact["sha256"]) for fact in run if fact["what"] == "artifact"),
    )


def look(marks: Path) -> Iterator[Sighting]:
    """Yield every living process of a test of this lab."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes()
            if b"TEO_EXECUTION_ID=" not in environ:
                continue
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        words = dict(word.partition(b"=")[::2] for word in environ.split(b"\0"))
        is_ours = str(marks).encode() in command or words.get(b"TEO_CHAOS") == str(marks).encode()
        if is_ours and state not in "ZX":
            yield Sighting(
                execution_id=words[b"TEO_EXECUTION_ID"].decode(),
                attempt=int(words.get(b"TEO_ATTEMPT", b"0")),
                pid=int(entry.name),
                at_s=time.time(),
            )


class Watch:
    """Looks again and again for living processes; remembers the last look at each."""

    def __init__(self, marks: Path) -> None:
        self.seen: dict[tuple[str, int, int], Sighting] = {}
        self._marks = marks

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for sighting in await asyncio.to_thread(lambda: list(look(self._marks))):
                self.seen[sighting.execution_id, sighting.attempt, sighting.pid] = sighting
            await asyncio.sleep(LOOK_S)


async def journals(log: Log, topics: Topics) -> list[list[EventMessage]]:
    """Return the events of each partition."""
    return [
        [decode_event(record.value) for record in records]
        for records in await read_parts(log, topics.events)
    ]


async def results(log: Log, topics: Topics) -> list[ExecutionResult]:
    """Return every result."""
    found = [decode(r.value) for r in await read_all(log, topics.results)]
    return [each for each in found if isinstance(each, ExecutionResult)]


async def stored(folder: Path, events: Iterable[EventMessage]) -> dict[str, Stored]:
    """Return what the store holds under each URI that the journal names."""
    store = FileStore(folder)
    found: dict[str, Stored] = {}
    for message in events:
        if isinstance(body := message.body, facts.AttemptFinished):
            for artifact in body.artifacts:
                with suppress(ArtifactMissing):
                    digest, size_bytes = hashlib.sha256(), 0
                    async for part in store.open(artifact.uri):
                        digest.update(part)
                        size_bytes += len(part)
                    found[artifact.uri] = Stored(sha256=digest.hexdigest(), size_bytes=size_bytes)
    return found


async def projected(log: Log, topics: Topics, path: Path | None) -> str:
    """Bring a projection up to the journal's end; return its fingerprint. None: a fresh one."""
    partitions = [
        Partition(topics.events, number) for number in range(await log.partitions(topics.events))
    ]
    ends = {p.number: end for p, end in (await log.ends(partitions)).items()}
    with Store(path) as store:
        tail = await Tail.open(store, log, topics.events)
        try:
            await fill(tail, ends)
        finally:
            await tail.close()
        return fingerprint(store.db)
