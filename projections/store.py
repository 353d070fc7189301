"""The database of the read models: decisions go in whole, with the position, in one transaction.

Belongs to one process, which a lock beside the file makes sure of. Never waits: calls are on the
event loop, so that a query sees one state and a run can be repeated exactly. Who else opens the
file (a backup, a shell, `teo fsck`) may keep it from being written for a while: `StoreUnavailable`.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import structlog

from events import durable
from events.errors import TeoError
from projections.journal import Decision, Mark
from projections.schema import TABLES, apply_decision, version

log = structlog.get_logger()

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -32000;
PRAGMA wal_autocheckpoint = 4000;
"""
"""NORMAL: after a power cut the newest transactions may be gone, with their position: they are
read from the journal again."""
_SIDE_FILES = ("-wal", "-shm", "-journal")
_OPEN_WAIT_S = 5.0
"""While it is opened nothing else is on the loop yet: a lock of a moment is waited for."""
_PASSES = {
    sqlite3.SQLITE_BUSY: "is locked by another process (`fuser` on its file names it)",
    sqlite3.SQLITE_LOCKED: "is locked by another process (`fuser` on its file names it)",
    sqlite3.SQLITE_FULL: "is on a disk that is full",
    sqlite3.SQLITE_IOERR: "cannot be read or written: its disk fails, or a quota is used up",
}
"""What SQLite cannot do now, and can once others let it."""
_DAMAGES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

P = ParamSpec("P")
T = TypeVar("T")


class StoreBusy(TeoError):
    """Raised when another process keeps the read model of the same file."""

    code = "store_busy"


class StoreUnavailable(TeoError):
    """Raised when the file cannot be used now: nothing has changed, and it is worth a retry."""

    code = "store_unavailable"
    retriable = True


class StoreDamaged(TeoError):
    """Raised when the file's content is not what was written: it has to be built again."""

    code = "store_damaged"
    retriable = True


class StoreRefused(TeoError):
    """Raised when the file cannot be opened: it is a folder, somebody else's, or not writable."""

    code = "store_refused"


class ForeignStore(TeoError):
    """Raised when a read model was built from the journal of another cluster or prefix."""

    code = "foreign_store"


class Store:
    """One database file, or one in memory (`path` None); open from the start until `close`."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = None if path is None else _Lock(path)
        self._marks: dict[int, Mark] = {}
        try:
            self.db = self._open()
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def marks(self) -> Mapping[int, Mark]:
        """How far each partition is applied; a partition that is missing is not begun."""
        return self._marks

    def mark(self, partition: int) -> Mark:
        """Return how far `partition` is applied."""
        return self._marks.get(partition, Mark())

    @property
    def journal(self) -> str:
        """Which journal this was built from; empty: none yet."""
        return self._about("journal")

    @property
    def cluster(self) -> str:
        """Id of the Kafka cluster it belongs to; empty: nobody said yet."""
        return self._about("cluster")

    def belong_to(self, cluster: str, topic: str) -> None:
        """Say whose journal this is for; one that does not say yet is taken over.

        Raises `ForeignStore` if it belongs to another cluster or another topic prefix: somebody
        may need it, and it would be shown as if it were of this one until it is rebuilt.
        """
        known = self.cluster, self.journal.rpartition("/")[0]
        for what, had, wanted in zip(("cluster", "journal"), known, (cluster, topic), strict=True):
            if had not in ("", wanted):
                raise ForeignStore(
                    f"the read model {self.path or ':memory:'} was built from {what} {had}, not "
                    f"from {wanted}; give each its own file, or remove this one: it is built again "
                    "from the journal"
                )
        self._say("cluster", cluster)

    def take_cluster_of(self, other: "Store") -> None:
        """Belong to the cluster that `other` belongs to."""
        if other.cluster:
            self._say("cluster", other.cluster)

    def bind(self, journal: str) -> None:
        """Say which journal is applied; what was built from another is thrown away."""
        if self.journal not in ("", journal):
            self.reset(f"it was built from {self.journal}, not from {journal}")
        self._say("journal", journal)

    def _about(self, name: str) -> str:
        row = self.db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def _say(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def apply(self, decisions: Mapping[int, Iterable[Decision]]) -> None:
        """Apply decisions by partition and move the positions: all in one transaction, or none."""
        marks: dict[int, Mark] = {}
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for partition, given in decisions.items():
                for decision in given:
                    apply_decision(self.db, partition, decision.events)
                    marks[partition] = decision.mark
            self._put_marks(marks)
            self._commit()
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        self._marks.update(marks)

    def _put_marks(self, marks: Mapping[int, Mark]) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)",
            [
                (partition, mark.offset, mark.event_id, mark.seq, mark.slack, mark.skipped)
                for partition, mark in marks.items()
            ],
        )

    def _commit(self) -> None:
        self.db.execute("COMMIT")

    def reset(self, reason: str) -> None:
        """Throw everything away: it is built again from the journal's start."""
        log.warning("projection.reset", path=str(self.path or ":memory:"), reason=reason)
        cluster = ""
        with suppress(StoreDamaged):
            cluster = self.cluster
        self.db.close()
        if self.path is not None:
            _remove(self.path)
        self.db = self._open()
        if cluster:
            self._say("cluster", cluster)

    def check(self) -> None:
        """Raise `StoreDamaged` if anybody has read what was never written there."""
        if self.db.damage:
            raise StoreDamaged(self.db.damage)

    def swap_in(self, path: Path) -> None:
        """Put the closed database at `path` in the place of this one, at once or not at all.

        Closing the old one first leaves it whole in its one file, without a log that a crash
        could leave beside the new one.
        """
        assert self.path is not None, "a database in memory has no file to take the place of"
        self.db.close()
        try:
            for suffix in _SIDE_FILES:
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            durable.replace(path, self.path)
        finally:
            self.db = self._open()

    def close(self) -> None:
        """Close the file and let go of it. Idempotent."""
        self.db.close()
        if self._lock is not None:
            self._lock.release()

    def _open(self) -> "_Connection":
        try:
            return self._opened()
        except StoreDamaged as error:
            if self.path is None:
                raise
            log.warning("projection.unreadable", path=str(self.path), error=str(error))
            _remove(self.path)
            return self._opened()
        except sqlite3.OperationalError as error:
            raise StoreRefused(
                f"the database of read models {self.path} cannot be opened: {error}; make it yours,"
                " or remove it: it is built again from the journal"
            ) from error

    def _opened(self) -> "_Connection":
        db = _connect(self.path)
        if _version_of(db) not in ("", version()):
            db.close()
            assert self.path is not None
            log.info("projection.other_version", path=str(self.path))
            _remove(self.path)
            db = _connect(self.path)
        if not _version_of(db):
            db.executescript(f"BEGIN;{TABLES};COMMIT;")
            db.execute("INSERT INTO about VALUES ('version', ?)", (version(),))
        rows = db.execute("SELECT partition, last_offset, event_id, seq, slack, skipped FROM marks")
        self._marks = {
            partition: replace(
                Mark(), offset=offset, event_id=event_id, seq=seq, slack=slack, skipped=skipped
            )
            for partition, offset, event_id, seq, slack, skipped in rows
        }
        db.execute("PRAGMA busy_timeout = 0")
        return db


class _Cursor(sqlite3.Cursor):
    """A cursor whose rows fail as its connection's statements do: SQLite reads them one by one."""

    connection: "_Connection"

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self.connection.told(super().fetchone)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return self.connection.told(super().fetchall)

    def __next__(self) -> Any:
        return self.connection.told(super().__next__)


class _Connection(sqlite3.Connection):
    """A connection that raises an error of ours for what is not of our making, in reads too."""

    damage = ""
    """What was found that was never written; empty: nothing."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        return self.told(self.cursor(_Cursor).execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Run one statement for each of the parameters."""
        return self.told(super().executemany, sql, parameters)

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        """Run several statements."""
        return self.told(super().executescript, sql)

    def told(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `call` does; its error is `StoreUnavailable` or `StoreDamaged` if it can."""
        try:
            return call(*args, **kwargs)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _PASSES:
                raise StoreUnavailable(f"the database of read models {_PASSES[code]}") from None
            if code in _DAMAGES:
                self.damage = (
                    f"the database of read models is damaged ({error}); it is built again from the"
                    " journal"
                )
                raise StoreDamaged(self.damage) from None
            raise


def _connect(path: Path | None) -> _Connection:
    db = sqlite3.connect(
        path or ":memory:",
        timeout=_OPEN_WAIT_S,
        isolation_level=None,
        cached_statements=256,
        factory=_Connection,
    )
    try:
        db.executescript(_PRAGMAS)
    except BaseException:
        db.close()
        raise
    return db


def _version_of(db: sqlite3.Connection) -> str:
    """Return the version that wrote `db`; empty: nobody yet; "?": not this program."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    if not tables:
        return ""
    if "about" not in tables:
        return "?"
    row = db.execute("SELECT value FROM about WHERE name = 'version'").fetchone()
    return "?" if row is None else str(row[0])


class _Lock:
    """Held while a process keeps the file; the system lets go of it when the process ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise StoreBusy(
                f"the read model {path} is kept by another process; "
                "stop that one, or give this one a folder of its own"
            ) from error

    def release(self) -> None:
        """Let go. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _remove(path: Path) -> None:
    for suffix in ("", *_SIDE_FILES):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
