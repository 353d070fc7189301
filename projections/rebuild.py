"""Builds a read model anew from the journal's start, beside the live one, and swaps it in.

The live one serves until the moment of the swap and never goes back: what is swapped in stands
exactly where the live one stands.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import structlog

from events.log import Log, Partition
from events.topics import Topics
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store
from projections.tail import OtherJournal, Tail, fill

__all__ = ["Compared", "Rebuilt", "compare", "fingerprint", "rebuild", "rebuild_live"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A read model beside a fresh one that stands where it stands."""

    events: int
    live: str
    """Fingerprint of the read model."""
    fresh: str
    """Fingerprint of the fresh one; empty: there is nothing to compare."""


async def compare(log_: Log, topics: Topics, path: Path) -> Compared:
    """Compare the read model at `path` with a fresh one, on copies: it may be in use.

    Raises `OtherJournal`, `LogUnavailable`, `TopicMissing`, `JournalBroken`, `sqlite3.Error`.
    """
    with TemporaryDirectory(prefix="teo-compare-") as folder:
        copy = Path(folder) / "copy.sqlite"
        _copy(path, copy)
        with Store(copy) as live, Store(Path(folder) / "fresh.sqlite") as fresh:
            if not live.marks:
                return Compared(events=0, live=fingerprint(live.db), fresh="")
            against = await Tail.open(live, log_, topics.events)
            await against.close()
            if not live.marks:
                raise OtherJournal(f"{path} was not built from {topics.events}")
            tail = await Tail.open(fresh, log_, topics.events)
            try:
                events = await fill(tail, _ends_of(live))
            finally:
                await tail.close()
            return Compared(events=events, live=fingerprint(live.db), fresh=fingerprint(fresh.db))


def _copy(source: Path, target: Path) -> None:
    """Copy a database that another process may be writing."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


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
