"""Where a local attempt lives on disk, and the handle that names it.

A handle comes back through the log, so nothing is removed that does not lie in a folder this
adapter marked as its own, under a name made from the attempt.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import AdapterError, AttemptId, Handle, InvalidHandle
from adapters.folders import give_tree
from adapters.local.owner import MACHINE_DIR, Owner

ARTIFACTS = "artifacts"
CLOSED = 0o700
"""The rights of folders that are the worker's alone."""
OPEN = 0o711
"""The rights of folders through which another user comes to a workspace of its own."""
NOTE_BYTES_MAX = 4096
_MARK = ".teo-local-adapter"
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,99})\.([0-9]{1,9})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of one attempt: `workspace/` for the test, beside it what we know of it."""

    id: AttemptId
    root: Path

    @property
    def name(self) -> str:
        """Name of the folder; unique to the attempt and its grant."""
        return f"{self.id.execution_id}.{self.id.number}.{self.id.fence}"

    @property
    def folder(self) -> Path:
        """All that belongs to the attempt."""
        return self.root / self.name

    @property
    def digest(self) -> str:
        """What the kernel's marks of the attempt are made of."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()

    @property
    def workspace(self) -> Path:
        """Where the test works; all it leaves behind goes with it."""
        return self.folder / "workspace"

    @property
    def artifacts(self) -> Path:
        """What the test puts here is kept: `TEO_ARTIFACTS_DIR`."""
        return self.workspace / ARTIFACTS

    @property
    def pidfile(self) -> Path:
        """Written by the guardian before the test starts, removed by it when nothing is left."""
        return self.folder / "guardian"

    @property
    def is_guarded(self) -> bool:
        """Whether the guardian's file is there; in a folder shut by a test, nobody can tell."""
        return os.path.lexists(self.pidfile)

    @property
    def made(self) -> Path:
        """A file as old as the attempt."""
        return self.folder / "made"

    @property
    def environment(self) -> dict[str, str]:
        """By these variables a process of the attempt is known wherever it hides."""
        return {
            "TEO_EXECUTION_ID": self.id.execution_id,
            "TEO_ATTEMPT": str(self.id.number),
            "TEO_FENCE": str(self.id.fence),
            "TEO_ARTIFACTS_DIR": str(self.artifacts),  # A copy of the folder has none of them.
        }

    def handle(self) -> Handle:
        """Return the handle; the same for the same attempt, wherever it is asked for."""
        return Handle(json.dumps({"adapter": "local", "host": host(), "place": str(self.folder)}))

    def make(self, *, mode: int = CLOSED) -> None:
        """Make the folders. Raises `AdapterError` if they exist: nothing runs twice.

        With `OPEN` another user can come to the workspace, but not into it before it is given.
        """
        try:
            mark_root(self.root, mode=mode)
        except OSError as error:
            raise self._no_workspace(error) from error
        try:
            self.folder.mkdir(mode=CLOSED)
            self.artifacts.mkdir(parents=True)
            self.workspace.chmod(CLOSED)
            self.folder.chmod(mode)
            self.made.touch()
        except FileExistsError as error:
            raise AdapterError(
                f"{self.folder} exists: attempt {self.id.number} of {self.id.execution_id} was "
                "provisioned before; tear it down first",
                code="already_provisioned",
                retriable=False,
                fault="worker",
            ) from error
        except OSError as error:
            raise self._no_workspace(error) from error

    def _no_workspace(self, error: OSError) -> AdapterError:
        text = f"cannot make a workspace in {self.root}: {error}"
        return AdapterError(text, code="no_workspace", fault="worker")

    def give(self, owner: Owner, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Give the workspace, with all there is in it, to a user. Raises `AdapterError`.

        What lies beside it stays the worker's.
        """
        try:
            give_tree(self.workspace, owner.uid, owner.gid, is_given_up=is_given_up)
        except OSError as error:
            raise AdapterError(
                f"cannot give {self.workspace} to {owner.name}: {error}",
                code="no_workspace",
                fault="worker",
            ) from error


def read_note(file: Path) -> bytes:
    """Return what a short file beside a workspace says. Raises `OSError`.

    A test of the same user may have put a pipe in its place, which would block, or a link.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(fd, NOTE_BYTES_MAX)
    finally:
        os.close(fd)


def place_for(root: Path, attempt_id: AttemptId) -> Place:
    """Return where an attempt lives under `root`. Raises `AdapterError` for an unusable id."""
    place = Place(id=attempt_id, root=root)
    if not _NAME.fullmatch(place.name):
        raise AdapterError(
            f"execution id {attempt_id.execution_id!r} cannot name a folder: use letters, digits, "
            "'_' and '-', at most 100",
            code="invalid_execution_id",
            retriable=False,
            fault="asker",
        )
    return place


def place_of(handle: Handle, *, own: Container[Path] = ()) -> Place:
    """Return the place a handle names, on this machine. Raises `InvalidHandle`, `AdapterError`.

    A place in one of the folders `own` needs no mark: a test may have removed it.
    """
    try:
        fields = json.loads(handle)
        adapter, origin, text = fields["adapter"], fields["host"], fields["place"]
        folder = Path(text)
        match = _NAME.fullmatch(folder.name)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidHandle(f"not a handle of the local adapter: {handle[:200]!r}") from error
    if adapter != "local" or match is None or not folder.is_absolute() or ".." in folder.parts:
        raise InvalidHandle(f"not a handle of the local adapter: {handle[:200]!r}")
    if origin != host():
        raise AdapterError(
            f"{folder} is on machine {origin!r} and this is {host()!r}: only a worker there can "
            "tear it down",
            code="other_machine",
            retriable=False,
            fault="worker",
        )
    root = folder.parent
    if root not in own and os.path.lexists(folder) and not (root / _MARK).is_file():
        raise InvalidHandle(
            f"{root} is not a folder of the local adapter: nothing is removed there"
        )
    execution_id, number, fence = match.groups()
    identity = AttemptId(execution_id=execution_id, number=int(number), fence=int(fence))
    return Place(id=identity, root=root)


def places_in(root: Path) -> list[Place]:
    """Return the place of each attempt that lies in `root`, by name."""
    if not (root / _MARK).is_file():
        return []
    found: list[Place] = []
    for folder in sorted(root.iterdir()):
        if (match := _NAME.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink():
            execution_id, number, fence = match.groups()
            identity = AttemptId(execution_id=execution_id, number=int(number), fence=int(fence))
            found.append(Place(id=identity, root=root))
    return found


def mark_root(root: Path, *, mode: int = CLOSED) -> None:
    """Make `root` a folder of this adapter, with these rights whoever made or changed it."""
    if root.is_symlink():
        root.unlink()  # By a test: where it leads to is nothing ours.
    root.mkdir(parents=True, exist_ok=True, mode=mode)
    root.chmod(mode)
    if mode == OPEN:
        # The way there was made with the rights that a worker makes its own files with.
        for folder in (MACHINE_DIR, root.parent):
            folder.chmod(mode)
    (root / _MARK).touch(exist_ok=True)


def host() -> str:
    """Return what names this machine among others; containers of one image share a machine id."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return f"{socket.gethostname()}/{machine[:12]}"
