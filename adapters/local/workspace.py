"""The workspace of an attempt: filled before the test, collected after it.

Whatever the test did to it, it is the folder that was made: held open from the provision on.
"""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from adapters.contract import AdapterError, Attempt, Collected, Found, FoundKind, Refused
from adapters.folders import Folder, GivenUp
from adapters.globs import WALK_S_MAX, Match, match_files
from adapters.local.config import LocalConfig
from adapters.local.owner import Owner
from adapters.local.place import ARTIFACTS, CLOSED, Place

COPY_FILES_MAX = 100_000
LOOK_S_MAX = 10.0
"""How long the files that are there before a test may be looked for."""
SET_BACK_S_MIN = 1.0
"""A clock that is behind what was measured by so much was set back."""
_COLLECT_ALWAYS = f"{ARTIFACTS}/"

T = TypeVar("T")
IsGivenUp = Callable[[], bool]


class Workspace:
    """What one attempt may write, and how its files are told from those that were there before."""

    def __init__(self, place: Place, config: LocalConfig, owner: Owner | None = None) -> None:
        """Hold the folders open. Raises `AdapterError`.

        With an owner the test runs as that user, and only its own files have names of their own.
        """
        self._config = config
        self._owner = owner
        try:
            self.folder = Folder(place.workspace)
            self._directory = (
                None if config.directory is None else Folder(config.directory, follow=True)
            )
            self._made_ns = place.made.stat().st_ctime_ns
            self._made_s = time.monotonic()
            self._before: frozenset[tuple[str, int, int]] = frozenset()
        except OSError as error:
            raise AdapterError(
                f"cannot open the workspace {place.workspace}: {error}",
                code="no_workspace",
                fault="worker",
            ) from error

    def close(self) -> None:
        """Give the folders up; what was found can be opened no more."""
        self.folder.close()
        if self._directory is not None:
            self._directory.close()

    def look(self, attempt: Attempt, is_given_up: IsGivenUp) -> None:
        """Note which files of the bench's folder are there before the test, as they are."""
        if self._directory is None:
            return
        matched = match_files(
            self._directory,
            (*attempt.artifacts, *attempt.junit),
            with_mounts=True,
            uid=None if self._owner is None else self._owner.uid,
            ends_at=time.monotonic() + LOOK_S_MAX,
            is_given_up=is_given_up,
        )
        self._before = frozenset(map(_as_it_is, matched.files))

    def collect(self, attempt: Attempt, is_given_up: IsGivenUp) -> Collected:
        """Find what the test left; a file of one path is taken from the workspace."""
        ends_at = time.monotonic() + WALK_S_MAX
        found: dict[tuple[str, FoundKind], Found] = {}
        refused: list[Refused] = [*self._what_became()]
        has_all_reports = True
        # The directory first, so that a file of the same path in the workspace goes before.
        for folder in (self._directory, self.folder):
            if folder is None:
                continue
            always = () if folder is self._directory else (_COLLECT_ALWAYS,)
            wanted: list[tuple[FoundKind, tuple[str, ...]]] = [
                ("junit", attempt.junit),  # First, while there is time.
                ("artifact", (*always, *attempt.artifacts)),
            ]
            for kind, globs in wanted:
                matched = match_files(
                    folder,
                    globs,
                    with_mounts=folder is self._directory,
                    uid=None if self._owner is None else self._owner.uid,
                    ends_at=ends_at,
                    is_given_up=is_given_up,
                )
                refused += matched.refused
                has_all_reports &= matched.is_whole or kind != "junit"
                found |= {
                    (each.path, kind): _found(folder, each, kind)
                    for each in matched.files
                    if not self._was_there(folder, each)
                }
        if attempt.junit and not any(kind == "junit" for _, kind in found):
            globs_text = ", ".join(attempt.junit)
            refused.append(Refused(path=globs_text, code="no_match", reason="no file matches"))
        ordered = tuple(found[key] for key in sorted(found))
        return Collected(
            found=ordered,
            refused=tuple(dict.fromkeys(refused)),
            has_all_reports=has_all_reports,
        )

    def _what_became(self) -> list[Refused]:
        """Say so if the workspace is not where it was made: no error, but no evidence either."""
        if self.folder.is_removed:
            reason = "the test removed its workspace, so nothing is left of it to collect"
            return [Refused(path=".", code="workspace_removed", reason=reason)]
        if not self.folder.is_in_place:
            reason = (
                "the test put something else in the place of its workspace; only what is left in "
                "the one it was given is collected"
            )
            return [Refused(path=".", code="workspace_replaced", reason=reason)]
        return []

    def _was_there(self, folder: Folder, match: Match) -> bool:
        """Return whether a file was there before the test, so is no evidence of this attempt."""
        if folder is self._directory:
            # The time of change cannot be set by whoever unpacks or copies a file; but the clock
            # that it is taken from can.
            is_old = match.status.st_ctime_ns <= self._made_ns and not self._is_set_back
            return is_old or _as_it_is(match) in self._before
        if self._config.copy is None:
            return False
        try:
            before = (self._config.copy / match.path).stat()
        except (OSError, ValueError):
            return False  # There is no such file, or a name that no path can hold.
        now = match.status
        return (now.st_mtime_ns, now.st_size) == (before.st_mtime_ns, before.st_size)

    @property
    def _is_set_back(self) -> bool:
        """True if the machine's clock was set back since the workspace was made."""
        measured_ns = self._made_ns + int((time.monotonic() - self._made_s) * 1e9)
        return time.time_ns() < measured_ns - int(SET_BACK_S_MIN * 1e9)


def _as_it_is(match: Match) -> tuple[str, int, int]:
    return match.path, match.status.st_ino, match.status.st_ctime_ns


def _found(folder: Folder, match: Match, kind: FoundKind) -> Found:
    return Found(
        kind=kind,
        path=match.path,
        size_bytes=match.status.st_size,
        open=partial(folder.open, match.path, expect=match.identity),
    )


async def in_thread(work: Callable[[IsGivenUp], T]) -> T:
    """Do `work` in a thread that gives up once nobody waits for it; a cancel waits for that."""
    is_cancelled = False
    working = asyncio.ensure_future(asyncio.to_thread(work, lambda: is_cancelled))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        is_cancelled = True
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # Looked at, so that nobody is told of it.
        raise


async def fill(workspace: Path, source: Path) -> None:
    """Copy a folder into the workspace. Raises `AdapterError`."""
    await in_thread(lambda is_given_up: _fill(workspace, source, is_given_up))


def _fill(workspace: Path, source: Path, is_given_up: IsGivenUp) -> None:
    copied = 0

    def copy_file(from_: str, to: str) -> str:
        nonlocal copied
        copied += 1
        if is_given_up():
            raise GivenUp
        if copied > COPY_FILES_MAX:
            raise AdapterError(
                f"{source} holds over {COPY_FILES_MAX} files: use config.directory instead",
                code="copy_too_big",
                retriable=False,
            )
        return str(shutil.copy2(from_, to))

    try:
        shutil.copytree(
            source, workspace, symlinks=True, dirs_exist_ok=True, copy_function=copy_file
        )
        workspace.chmod(CLOSED)  # It got the rights of its source, which others may come into.
    except (OSError, shutil.Error) as error:
        is_full = os.strerror(errno.ENOSPC) in str(error)
        raise AdapterError(
            f"cannot copy {source} into the workspace: {error}",
            code="no_workspace" if is_full else "copy_failed",
            fault="worker" if is_full else "bench",
        ) from error
    except RecursionError as error:
        raise AdapterError(
            f"{source} is too deep to be copied: use config.directory instead",
            code="copy_too_big",
            retriable=False,
        ) from error
