"""A database whose content is not what was written is built again, whoever finds that out."""

import asyncio
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from projections import runtime
from projections.runtime import Projector
from projections.schema import fingerprint
from projections.store import Store, StoreDamaged, StoreRefused, StoreUnavailable
from tests.unit.projections.given import decision, decisions, project
from tests.unit.projections.journal_log import JournalLog
from tests.unit.projections.test_runtime import (
    OFFLINE,
    ONLINE,
    REGISTERED,
    WAIT_S,
    projecting,
    state,
)


def spoil(path: Path, table: str) -> None:
    """Write over the root page of a table, as a bad disk does: the file opens all the same."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = db.execute(query, (table,)).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


async def rebuilt(projector: Projector, seq: int) -> None:
    """Return once the damage is gone and all is applied."""
    async with asyncio.timeout(WAIT_S):
        while projector.store.db.damage or projector.store.mark(0).seq < seq:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("table", ["benches", "about", "marks"])
@pytest.mark.parametrize("finder", ["reader", "projector"])
def test_it_is_built_again_and_the_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, finder: str
) -> None:
    """Another start would find the same damage, and end by it, for ever."""
    monkeypatch.setattr(runtime, "BACKOFF_S_MAX", 0.05)
    path = tmp_path / "read.db"

    async def scenario() -> None:
        log = JournalLog()
        log.write(decisions([REGISTERED], [ONLINE]))
        with Store(path) as store:
            async with projecting(log, store) as projector:
                assert await projector.caught_up(WAIT_S)
            before = fingerprint(store.db)
        spoil(path, table)
        with Store(path) as store:
            async with projecting(log, store) as projector:
                if table == "benches" and finder == "reader":
                    with pytest.raises(StoreDamaged, match="built again from the journal"):
                        store.db.execute("SELECT * FROM benches").fetchall()
                if finder == "projector":
                    log.write(decision(OFFLINE, seq=2))
                    log.write(decision(ONLINE, seq=3))
                await rebuilt(projector, 3 if finder == "projector" else 2)
            assert state(store) == "idle"
            assert finder == "projector" or fingerprint(store.db) == before

    asyncio.run(scenario())


def test_rows_that_are_read_one_by_one_tell_of_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    with Store(path) as store:
        rows = [(f"p{number}", "w" * 200) for number in range(500)]
        store.db.execute("CREATE TABLE many (name, text)")
        store.db.executemany("INSERT INTO many VALUES (?, ?)", rows)
    size = path.stat().st_size
    with path.open("r+b") as file:  # The last pages: the first rows can be read.
        file.seek(size - 3 * 4096)
        file.write(b"\xa5" * 3 * 4096)
    with Store(path) as store:
        with pytest.raises(StoreDamaged):
            assert len(list(store.db.execute("SELECT * FROM many"))) < 0
        with pytest.raises(StoreDamaged):
            store.check()


def test_a_file_that_cannot_be_opened_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "read.db").mkdir()
    with pytest.raises(StoreRefused, match="cannot be opened"):
        Store(tmp_path / "read.db")


def test_a_disk_that_refuses_is_waited_for_and_reads_go_on(tmp_path: Path) -> None:
    """As a quota that is used up, or a disk set read-only: an I/O error, says SQLite."""
    first, second = decisions([REGISTERED, ONLINE]), decision(OFFLINE, seq=2)
    with Store(tmp_path / "read.db") as store:
        project(store, first)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(StoreUnavailable, match="quota"):
                project(store, second)
            assert state(store) == "idle"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        project(store, second)
        assert state(store) == "offline"
