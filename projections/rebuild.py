"""Builds a read model anew from the journal's start, beside the live one, and swaps it in.

The live one serves until the moment of the swap and never goes back: what is swapped in stands
exactly where the live one stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from events.log import Log, Partition
from events.topics import Topics
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store
from projections.tail import Tail, fill

__all__ = ["Rebuilt", "fingerprint", "rebuild", "rebuild_live"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did. With equal positions the fingerprints must be equal."""

    events: int
    before: str
    """Fingerprint of what was replaced."""
    after: str


async def rebuild(log_: Log, topics: Topics, path: Path, *, cluster: str = "") -> Rebuilt:
    """Rebuild the read model at `path`, which no process may have open, up to the journal's end.

    Raises `StoreBusy` if one has it, `ForeignStore` if it is not of this cluster and prefix,
    `LogUnavailable`, `TopicMissing`, `JournalBroken`; the old read model is then as it was.
    """
    count = await log_.partitions(topics.events)
    partitions = [Partition(topics.events, number) for number in range(count)]
    ends = {p.number: end for p, end in (await log_.ends(partitions)).items()}
    with Store(path) as old, _Beside(path) as beside:
        if cluster:
            old.belong_to(cluster, topics.events)
        events = await beside.fill(log_, topics, ends)
        return beside.swap_into(old, events)


async def rebuild_live(log_: Log, topics: Topics, projector: Projector) -> Rebuilt:
    """Rebuild the read model that `projector` keeps, while it goes on.

    The bulk is read beside it; only the last part is read while the projector waits its turn.
    """
    store = projector.store
    assert store.path is not None, "a read model in memory is rebuilt by a new process"
    with _Beside(store.path) as beside:
        events = await beside.fill(log_, topics, _ends_of(store))
        async with projector.turn:
            events += await beside.fill(log_, topics, _ends_of(store))
            return beside.swap_into(store, events)


def _ends_of(store: Store) -> Mapping[int, int]:
    return {number: mark.offset + 1 for number, mark in store.marks.items()}


class _Beside:
    """A fresh database beside a live one; gone when left, unless it was swapped in."""

    def __init__(self, live: Path) -> None:
        self._path = live.with_name(f"{live.name}.rebuild")
        self._store: Store | None = None

    def __enter__(self) -> Self:
        self._store = Store(self._path)
        if self._store.marks:
            self._store.reset("a rebuild was broken off")
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()
        for suffix in ("", "-wal", "-shm", ".lock"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    async def fill(self, log_: Log, topics: Topics, ends: Mapping[int, int]) -> int:
        """Apply the journal before `ends`; return how many events that were."""
        assert self._store is not None
        tail = await Tail.open(self._store, log_, topics.events)
        try:
            return await fill(tail, ends)
        finally:
            await tail.close()

    def swap_into(self, live: Store, events: int) -> Rebuilt:
        """Put the fresh database in the place of `live`."""
        assert self._store is not None
        before, after = fingerprint(live.db), fingerprint(self._store.db)
        self._store.take_cluster_of(live)
        self._store.close()
        live.swap_in(self._path)
        log.info("projection.rebuilt", events=events, is_same=before == after)
        return Rebuilt(events=events, before=before, after=after)
