"""What a worker keeps on its own disk between lives: its epoch, and what it has to tear down.

Never holds facts: those are on the log. Losing the folder costs an epoch's order and leftovers'
names, not results.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from events.errors import TeoError

log = structlog.get_logger()
ROOM_BYTES_MIN = 1024 * 1024
"""With less room than this the folder counts as full: an attempt would meet its end."""
_PROBE = "0" * 4096


class StateUnreadable(TeoError):
    """Raised when the state folder holds something this worker cannot trust, or cannot be used."""

    code = "state_unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something provisioned, or about to be, and not yet torn down."""

    execution_id: str
    attempt: int
    fence: int
    bench: str
    adapter: str
    handle: str
    epoch: int


class StateDir:
    """The folder of one worker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._epoch_path = root / "epoch"
        self._handles = root / "handles"
        try:
            self._handles.mkdir(parents=True, exist_ok=True, mode=0o700)
            (root / "attempts").mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateUnreadable(f"state folder {root}: {error}; set `state_dir`") from error

    def next_epoch(self, *, above: int = 0) -> int:
        """Return an epoch higher than any before, durable before it is returned."""
        epoch = max(self._read_epoch(), above) + 1
        _write_durably(self._epoch_path, str(epoch))
        return epoch

    def raise_epoch(self, epoch: int) -> None:
        """Make the next epoch higher than `epoch`."""
        if self._read_epoch() < epoch:
            _write_durably(self._epoch_path, str(epoch))

    def _read_epoch(self) -> int:
        try:
            return int(self._epoch_path.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StateUnreadable(
                f"{self._epoch_path} holds no epoch ({error}): write the worker's last epoch "
                "into it (`teo worker list` shows it) and start again"
            ) from error

    def probe(self) -> None:
        """Write as an attempt has to, durably; raises `StateUnreadable` saying what to do.

        The folder itself is not made anew: whoever took it away, or did not mount it, brings it
        back, and then it is gone on with.
        """
        try:
            for folder in (self._handles, self.root / "attempts"):
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
        _write_durably(self._path(leftover), json.dumps(asdict(leftover), sort_keys=True))

    def forget(self, leftover: Leftover) -> None:
        """Note that it is torn down. A note that stays does no harm: it is torn down twice."""
        try:
            self._path(leftover).unlink(missing_ok=True)
        except OSError as error:
            log.warning("worker.note_stays", path=str(self._path(leftover)), error=str(error))

    def leftovers(self) -> Sequence[Leftover]:
        """Return what earlier lives left, in a fixed order; a broken note is set aside."""
        found = []
        for path in sorted(self._handles.glob("*.json")):
            try:
                found.append(Leftover(**json.loads(path.read_text())))
            except (OSError, ValueError, TypeError) as error:
                log.warning("worker.leftover_unreadable", path=str(path), error=str(error))
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".broken"))
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


def _epoch_of(path: Path) -> int:
    last = path.stem.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def _write_durably(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    try:
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateUnreadable(f"cannot write {path}: {error}; free or repair the disk") from error
