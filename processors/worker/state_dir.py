"""What a worker keeps on its own disk between lives: which life it is in, and what it has to clean.

Never holds facts: those are on the log. Losing the folder costs the names of leftovers, the fences
that were seen, and the ten seconds until the life before is lost; no results.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from events.durable import make_folder, write_whole
from events.errors import TeoError
from processors.worker.fences import Fences
from processors.worker.notes import Leftover, read_notes, text_of

log = structlog.get_logger()
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ROOM_BYTES_MIN = 1024 * 1024
"""With less room than this the folder counts as full: an attempt would meet its end."""
EPOCH_MAX = 2**62
"""What a report can carry, and more lives than there are: a file that says more holds no epoch."""
_PROBE = "0" * 4096


class StateUnreadable(TeoError):
    """Raised when the state folder holds something this worker cannot trust, or cannot be used."""

    code = "state_unreadable"


class StateInUse(TeoError):
    """Raised when another process works in this state folder."""

    code = "state_in_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A life that begins."""

    epoch: int
    """Higher than that of any life before in this folder."""
    after_life: str
    """The life before, if its process is certainly dead; empty: there is none, or it may live."""
    is_copy: bool
    """True unless what the folder notes was certainly noted in this folder: whoever was copied may
    run what it notes, on this machine too, and under another id or in another lab."""


class StateDir:
    """The folder of one worker. To be used under its lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._epoch_path = root / "epoch"
        self._life_path = root / "life"
        self._lock_path = root / "lock"
        self._handles = root / "handles"
        try:
            make_folder(self._handles, mode=0o700)
            make_folder(root / "attempts", mode=0o700)
            self.fences = Fences(root / "fences", self.leftovers())
        except OSError as error:
            raise StateUnreadable(f"state folder {root}: {error}; set `state_dir`") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock. Raises `StateInUse` if another process does.

        The kernel lets go of it when the process dies, however it dies.
        """
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateUnreadable(f"state folder {self.root}: {error}; set `state_dir`") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                who = os.read(descriptor, 100).decode(errors="replace").strip() or "another process"
                raise StateInUse(
                    f"state folder {self.root} is in use by {who}: stop that one, or give this "
                    "worker an --id and a --state-dir of its own"
                ) from error
            except OSError as error:
                raise StateUnreadable(f"{self._lock_path} cannot be locked: {error}") from error
            with contextlib.suppress(OSError):  # A full disk: it is for people only.
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def begin(self, life: str) -> Begun:
        """Note, durably, that `life` begins; to be called before it says its first word.

        The life before is certainly dead if it had the lock that this process has now: the same
        file, on a machine that has not been started since. A copy of the folder has another file,
        and a disk that was moved or shared another machine: then the life before may live.
        """
        epoch = self._read_epoch() + 1
        _write_durably(self._epoch_path, str(epoch))
        before, place = self._life_before()
        lock = self._lock_name()
        _write_durably(self._life_path, json.dumps({"life": life, "lock": lock}))
        return Begun(
            epoch=epoch,
            after_life=before if lock and place == lock else "",
            is_copy=not lock or _file_of(place) != _file_of(lock),
        )

    def _life_before(self) -> tuple[str, str]:
        """Return the life before, and which lock it had; empty: there is none, or nobody knows."""
        try:
            found = json.loads(self._life_path.read_text())
            return str(found["life"]), str(found["lock"])
        except FileNotFoundError:
            return "", ""
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("worker.life_unreadable", path=str(self._life_path), error=str(error))
            return "", ""

    def _lock_name(self) -> str:
        """Return what tells this folder's lock from every other one; empty: nothing does."""
        try:
            found = self._lock_path.stat()
            return f"{BOOT_ID.read_text().strip()}/{found.st_dev}/{found.st_ino}"
        except OSError:
            return ""

    def raise_epoch(self, epoch: int) -> None:
        """Make the next epoch higher than `epoch`."""
        if self._read_epoch() < epoch:
            _write_durably(self._epoch_path, str(epoch))

    def _read_epoch(self) -> int:
        try:
            epoch = int(self._epoch_path.read_text())
            if not 0 <= epoch <= EPOCH_MAX:
                raise ValueError(f"it is not from 0 to {EPOCH_MAX}")  # noqa: TRY301
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StateUnreadable(
                f"{self._epoch_path} holds no epoch ({error}): write the worker's last epoch "
                "into it (`teo worker list` shows it) and start again"
            ) from error
        return epoch

    def probe(self) -> None:
        """Write as an attempt has to, durably; raises `StateUnreadable` saying what to do.

        The folder itself is not made anew: whoever took it away, or did not mount it, brings it
        back, and then it is gone on with.
        """
        try:
            for folder in (self._handles, self.root / "attempts", self.root / "fences"):
                folder.mkdir(exist_ok=True, mode=0o700)
            room = os.statvfs(self.root)
        except OSError as error:
            raise StateUnreadable(
                f"cannot use the state folder {self.root}: {error}; bring it back, writable: the "
                "worker takes it up by itself"
            ) from error
        if room.f_bavail * room.f_frsize < ROOM_BYTES_MIN:
            raise StateUnreadable(
                f"the disk of the state folder {self.root} is full: free some, the worker goes on "
                "by itself"
            )
        _write_durably(self.root / "probe", _PROBE)

    def remember(self, leftover: Leftover) -> None:
        """Note, durably, what must be torn down; to be called before anything is provisioned."""
        _write_durably(self._path(leftover), text_of(leftover))
        self.fences.saw(leftover)

    def forget(self, leftover: Leftover) -> None:
        """Note that it is torn down. A note that stays does no harm: it is torn down twice."""
        try:
            self.fences.keep(leftover, self._path(leftover))
        except OSError as error:
            log.warning("worker.note_stays", path=str(self._path(leftover)), error=str(error))

    def disown(self) -> None:
        """Let go, unlike `forget`, of what may be somebody else's: nothing of it is torn down."""
        for leftover in self.leftovers():
            log.warning(
                "worker.leftover_of_a_copy",
                bench=leftover.bench,
                execution_id=leftover.execution_id,
            )
            self.forget(leftover)

    def forget_fences(self) -> None:
        """Forget every fence that was seen, and that the worker was stopped for one."""
        try:
            self.fences.forget()
        except OSError as error:
            raise StateUnreadable(f"cannot forget fences: {error}; repair the disk") from error
        for leftover in self.leftovers():
            _write_durably(self._path(leftover), text_of(replace(leftover, fence=0)))

    def leftovers(self) -> Sequence[Leftover]:
        """Return what earlier lives left, in a fixed order; a broken note is set aside."""
        try:
            found = read_notes(self._handles)
        except OSError as error:
            raise StateUnreadable(f"cannot read {self._handles}: {error}; repair it") from error
        return sorted(found, key=lambda each: (each.epoch, each.execution_id, each.attempt))

    def log_path(self, execution_id: str, attempt: int, epoch: int) -> Path:
        """Return where the whole output of an attempt is written."""
        return self.root / "attempts" / f"{_name(execution_id, attempt)}-{epoch}.log"

    def spool_path(self, epoch: int) -> Path:
        """Return where reports of a life wait."""
        return self.root / f"outbox-{epoch}.spool"

    def old_files(self, epoch: int) -> Sequence[Path]:
        """Return spools and logs of lives before `epoch`."""
        found = [*self.root.glob("outbox-*.spool"), *(self.root / "attempts").glob("*.log")]
        return sorted(path for path in found if _epoch_of(path) < epoch)

    def _path(self, leftover: Leftover) -> Path:
        name = _name(leftover.execution_id, leftover.attempt)
        return self._handles / f"{name}-{leftover.epoch}.json"


def _name(execution_id: str, attempt: int) -> str:
    """Return a file name for an attempt, whatever characters its id has."""
    return f"{hashlib.sha256(execution_id.encode()).hexdigest()[:24]}-{attempt}"


def _file_of(lock: str) -> str:
    """Return which file a lock is, whenever its machine was started."""
    return lock.partition("/")[2]


def _epoch_of(path: Path) -> int:
    last = path.stem.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def _write_durably(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise StateUnreadable(f"cannot write {path}: {error}; free or repair the disk") from error
