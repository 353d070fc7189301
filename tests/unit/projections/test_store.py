"""A decision goes in once, whole, with its position, whatever ends the process in between."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from events import facts
from events.message import EventMessage
from projections import queries, schema
from projections.schema import fingerprint
from projections.store import ForeignStore, Store, StoreBusy
from tests.unit.processors.scheduler.history import lab, reserve, submit
from tests.unit.projections.given import decision, decisions, project, spec

REGISTERED = facts.BenchRegistered(bench=spec("b1"))
ONLINE = facts.BenchOnline(bench="b1")
HELD = facts.BenchHeld(bench="b1", fence=1, holder_kind="execution", holder_id="e1")
FREED = facts.BenchFreed(bench="b1", fence=1, reason="")


class PowerCut(Exception):
    """Raised when the process ends between applying and committing."""


class DyingStore(Store):
    """A store whose process ends just before, or just after, a commit."""

    dies: str = ""

    def _commit(self) -> None:
        if self.dies == "before":
            raise PowerCut
        super()._commit()
        if self.dies == "after":
            raise PowerCut


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_crash_around_the_commit_applies_every_decision_once(tmp_path: Path, dies: str) -> None:
    path = tmp_path / "read.db"
    first, second = decisions([REGISTERED, ONLINE], [HELD]), decision(FREED, seq=3)
    with DyingStore(path) as store:
        project(store, first[:2])
        store.dies = dies
        with pytest.raises(PowerCut):
            project(store, first[2:])
    with Store(path) as store:
        assert store.mark(0).seq == (2 if dies == "before" else 3)
        row = queries.bench(store.db, "lab", "b1")
        assert row is not None
        assert row.state == ("idle" if dies == "before" else "held")
        project(store, first[2:] if dies == "before" else [])
        project(store, second)
        after_crash = fingerprint(store.db)
    with Store(None) as store:
        project(store, [*first, *second])
        assert fingerprint(store.db) == after_crash


def test_an_error_in_the_middle_of_a_batch_leaves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "read.db") as store:
        project(store, decision(REGISTERED))
        before = fingerprint(store.db)
        store.db.execute("DROP TABLE workers")
        worker = facts.WorkerDrained(worker="w", epoch=1, reason="")
        with pytest.raises(sqlite3.OperationalError):
            project(store, decision(ONLINE, worker, seq=1))
        store.db.execute("CREATE TABLE workers (pool, worker, PRIMARY KEY (pool, worker))")
        assert store.mark(0).seq == 1
        assert fingerprint(store.db) == before
        project(store, decision(ONLINE, seq=1))
        assert store.mark(0).seq == 2


def test_positions_last_from_process_to_process(tmp_path: Path) -> None:
    with Store(tmp_path / "read.db") as store:
        project(store, decision(REGISTERED, ONLINE), partition=3)
        marks = dict(store.marks)
    with Store(tmp_path / "read.db") as store:
        assert store.marks == marks
        assert store.mark(3).seq == 2


def test_what_another_version_wrote_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "read.db"
    with Store(path) as store:
        project(store, decision(REGISTERED))
    monkeypatch.setattr(schema, "REVISION", schema.REVISION + 1)
    with Store(path) as store:
        assert not store.marks
        assert queries.bench(store.db, "lab", "b1") is None


@pytest.mark.parametrize("content", [b"this is no database at all, but it is long enough" * 40])
def test_a_file_that_is_no_database_is_built_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "read.db"
    path.write_bytes(content)
    with Store(path) as store:
        project(store, decision(REGISTERED))
        assert queries.bench(store.db, "lab", "b1") is not None


def test_a_file_belongs_to_one_process(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    with Store(path), pytest.raises(StoreBusy, match=r"read\.db is kept by another process"):
        Store(path)
    Store(path).close()


def test_a_journal_that_was_made_anew_means_a_new_read_model(tmp_path: Path) -> None:
    with Store(tmp_path / "read.db") as store:
        store.belong_to("cluster-1", "teo.events")
        store.bind("teo.events/8")
        project(store, decision(REGISTERED))
        store.bind("teo.events/8")
        assert store.marks
        store.bind("teo.events/4")
        assert not store.marks
        assert (store.journal, store.cluster) == ("teo.events/4", "cluster-1")


def test_the_read_model_of_another_cluster_or_prefix_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    with Store(path) as store:
        store.bind("teo.events/8")
        project(store, decision(REGISTERED))
    with Store(path) as store:
        # It was written before stores said whose they are: whoever comes first takes it over.
        assert store.cluster == ""
        store.belong_to("cluster-1", "teo.events")
    with Store(path) as store:
        with pytest.raises(ForeignStore, match="built from cluster cluster-1, not from cluster-2"):
            store.belong_to("cluster-2", "teo.events")
        with pytest.raises(ForeignStore, match=r"built from journal teo\.events, .* dev\.events"):
            store.belong_to("cluster-1", "dev.events")
        store.belong_to("cluster-1", "teo.events")
        assert store.marks


def scheduled() -> Sequence[EventMessage]:
    """What the scheduler itself makes of some asks."""
    history = lab("b1", "b2")
    history.ask(reserve("r1"))
    history.ask(submit("e1"))
    history.ask(submit("e2"))
    return history.events


def test_the_fingerprint_does_not_depend_on_how_the_rows_came() -> None:
    ours = scheduled()
    theirs = decisions([REGISTERED, ONLINE], [HELD], [FREED], pool="other")
    with Store(None) as one, Store(None) as two, Store(None) as three:
        project(one, ours, partition=0)
        project(one, theirs, partition=1)
        project(two, theirs[:2], partition=1)
        project(two, ours, partition=0)
        project(two, theirs[2:], partition=1)
        assert fingerprint(one.db) == fingerprint(two.db)
        project(three, ours, partition=0)
        project(three, theirs[:3], partition=1)
        assert fingerprint(three.db) != fingerprint(one.db)
