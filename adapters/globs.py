"""Finds the files of a workspace that globs name; never follows anything out of it.

The syntax is in `adapters.grammar`. What is found is handed over by what it is, not by its name:
`Match.identity` and `Folder.open` give the file that was looked at, or none.
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from adapters.contract import AdapterError, Refused
from adapters.folders import (
    FILE,
    Descent,
    Folder,
    GivenUp,
    Identity,
    LeadsOut,
    identity_of,
    mounts_below,
)
from adapters.grammar import ANY, BadGlob, Part, parts_of, wrong_globs

FILES_MAX = 10_000
ENTRIES_MAX = 500_000
DEPTH_MAX = 4_096
NAMES_BYTES_MAX = 32 << 20
"""What the paths of all files that match may take."""
WALK_S_MAX = 60.0
REFUSED_MAX = 100
_PATH_CHARS_SHOWN = 500

_Parts = tuple[Part, ...]
_State = frozenset[int]


class GlobRefused(AdapterError):
    """Raised when a glob could name something outside of the workspace, or is no glob at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="glob_refused", retriable=False, fault="asker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A regular file that a glob names: where it was found, and what it is."""

    path: str
    status: os.stat_result

    @property
    def identity(self) -> Identity:
        """Return what `Folder.open` shall expect."""
        return identity_of(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What globs found below one folder, by path."""

    files: tuple[Match, ...] = ()
    refused: tuple[Refused, ...] = ()
    is_whole: bool = True
    """False if a file that a glob names was refused, or the walk ended before its end."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the paths, relative to the folder, POSIX, sorted."""
        return tuple(each.path for each in self.files)


def check_globs(globs: Sequence[str]) -> None:
    """Raise `GlobRefused` for the first of `globs` that may not be used."""
    if (wrong := wrong_globs(globs)) is not None:
        raise GlobRefused(str(wrong))


def match_files(
    root: Folder,
    globs: Sequence[str],
    *,
    with_mounts: bool = False,
    uid: int | None = None,
    ends_at: float | None = None,
    is_given_up: Callable[[], bool] = lambda: False,
) -> Matched:
    """Return the regular files below `root` that any of `globs` names.

    A link that leads out of `root`, a device, a pipe and what cannot be read is refused by name,
    and the rest is found; so is what is mounted below, unless `with_mounts`, and a file of more
    than one name that is not of the user `uid` (None: of the folder's own). What is not found by
    `ends_at`, on the monotonic clock, is not found. Raises `GlobRefused`, or `GivenUp`.
    """
    try:
        patterns = tuple(parts_of(glob) for glob in globs)
    except BadGlob as error:
        raise GlobRefused(str(error)) from error
    if not patterns:
        return Matched()
    mounts = frozenset(() if with_mounts else mounts_below(root.path))
    ends_at = time.monotonic() + WALK_S_MAX if ends_at is None else ends_at
    uid = root.status.st_uid if uid is None else uid
    walk = _Walk(root, patterns, mounts, uid, ends_at, is_given_up)
    walk.go()
    refused = walk.refused
    if walk.refused_more:
        refused = [*refused, _refused("", "more", f"and {walk.refused_more} more")]
    return Matched(
        files=tuple(sorted(walk.found, key=lambda match: match.path)),
        refused=tuple(refused),
        is_whole=walk.is_whole,
    )


class _Enough(Exception):
    """Raised when a bound of the walk is reached; holds what to say."""


@dataclass(slots=True)
class _Level:
    """A folder the walk is in: its name, and the folders in it that are still to be walked."""

    name: str
    states: tuple[_State, ...]
    folders: list[tuple[str, tuple[_State, ...]]] = field(default_factory=list)


class _Walk:
    """One walk through a tree, with a state of each pattern for the folder it is in."""

    def __init__(
        self,
        root: Folder,
        patterns: tuple[_Parts, ...],
        mounts: frozenset[str],
        uid: int,
        ends_at: float,
        is_given_up: Callable[[], bool],
    ) -> None:
        self.found: list[Match] = []
        self.refused: list[Refused] = []
        self.refused_more = 0
        self.is_whole = True
        self._root = root
        self._patterns = patterns
        self._is_given_up = is_given_up
        self._mounts = mounts
        self._uid = uid
        self._ends_at = ends_at
        self._entries = 0
        self._names_bytes = 0
        self._levels: list[_Level] = []

    def go(self) -> None:
        descent = Descent(self._root.descriptor())
        try:
            self._go(descent)
        except _Enough as enough:
            self.is_whole = False
            self._refuse("", "too_many_files", f"{enough}: what comes after was not collected")
        except OSError as error:
            # The tree was moved under the walk: what was found stays found.
            self.is_whole = False
            self._refuse("", "unreadable", f"cannot be read further: {error.strerror}")
        finally:
            descent.close()

    def _go(self, descent: Descent) -> None:
        start = tuple(_reachable(parts, {0}) for parts in self._patterns)
        self._levels = [_Level("", start)]
        self._list(descent.fd)
        while True:
            level = self._levels[-1]
            if level.folders:
                self._enter(descent, *level.folders.pop())
            elif len(self._levels) > 1:
                self._levels.pop()
                descent.up()
            else:
                return

    def _enter(self, descent: Descent, name: str, states: tuple[_State, ...]) -> None:
        """Go into a folder and look at what is in it, if that may be."""
        if len(self._levels) > DEPTH_MAX:
            self._refuse(self._path(name), "too_deep", f"is over {DEPTH_MAX} folders deep")
            return
        if self._mounts and f"{self._root.real}/{self._path(name)}" in self._mounts:
            self._refuse(self._path(name), "other_file_system", "is a mount point")
            return
        try:
            descent.down(name)
        except FileNotFoundError:
            return
        except OSError as error:
            self._refuse(self._path(name), "unreadable", f"cannot be read: {error.strerror}")
            return
        self._levels.append(_Level(name, states))
        self._list(descent.fd)

    def _list(self, fd: int) -> None:
        """Take the files of the folder the walk is in, and note its folders."""
        level = self._levels[-1]
        with os.scandir(fd) as scanned:
            entries = sorted(
                islice(scanned, ENTRIES_MAX + 1 - self._entries), key=lambda entry: entry.name
            )
        for entry in entries:
            self._count()
            after = tuple(
                _advance(parts, state, entry.name)
                for parts, state in zip(self._patterns, level.states, strict=True)
            )
            is_named = any(
                len(parts) in state for parts, state in zip(self._patterns, after, strict=True)
            )
            if entry.is_dir(follow_symlinks=False):
                if any(after):
                    level.folders.append((entry.name, after))
            elif is_named:
                self._take(fd, entry.name)
            elif any(after) and entry.is_symlink() and self._is_asked_for(entry.name):
                self._note_link(fd, entry.name)
        level.folders.reverse()

    def _count(self) -> None:
        self._entries += 1
        if self._entries > ENTRIES_MAX or len(self.found) >= FILES_MAX:
            raise _Enough(f"over {FILES_MAX} files match, or over {ENTRIES_MAX} were looked at")
        if self._names_bytes > NAMES_BYTES_MAX:
            raise _Enough(f"the paths of what matches take over {NAMES_BYTES_MAX} bytes")
        if self._entries % 256 == 0:
            if self._is_given_up():
                raise GivenUp
            if time.monotonic() > self._ends_at:
                raise _Enough(f"looking for files took over {WALK_S_MAX:g} s")

    def _is_asked_for(self, name: str) -> bool:
        """Return whether a pattern goes on through `name` by more than a `**`."""
        return any(
            (part := parts[place]) is not ANY and part.match(name)
            for parts, state in zip(self._patterns, self._levels[-1].states, strict=True)
            for place in state
            if place < len(parts)
        )

    def _note_link(self, fd: int, name: str) -> None:
        """Say that a link to a folder stands where a glob goes on: it is not walked into."""
        with suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd).st_mode):
                reason = "is a link to a folder, and links to folders are not followed"
                self._refuse(self._path(name), "link_to_folder", reason)

    def _take(self, fd: int, name: str) -> None:
        """Take a file that a glob names, or say why it may not be collected."""
        path = self._path(name)
        try:
            status = self._status(fd, name, path)
        except FileNotFoundError:
            is_link = _is_link(fd, name)
            if is_link:
                self._refuse(path, "unreadable", "is a link to what does not exist")
            return
        except IsADirectoryError:
            return  # A link inside: what it leads to is walked where it is.
        except LeadsOut as error:
            self.is_whole = False
            self._refuse(path, "outside_workspace", str(error.strerror))
        except OSError as error:
            self.is_whole = False
            self._refuse(path, "unreadable", f"cannot be read: {error.strerror}")
        else:
            self._found(path, status)

    def _found(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self.is_whole = False
            self._refuse(path, "not_a_file", "is not a regular file")
        elif status.st_nlink > 1 and status.st_uid != self._uid:
            self.is_whole = False
            reason = "is one more name of a file of another user"
            self._refuse(path, "hard_link", reason)
        else:
            self._names_bytes += len(path)
            self.found.append(Match(path=path, status=status))

    def _status(self, fd: int, name: str, path: str) -> os.stat_result:
        """Return what a name stands for, after opening it; pipes and devices stay unopened."""
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            with self._root.open(path) as file:
                return os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return status
        file_fd = os.open(name, FILE, dir_fd=fd)
        try:
            return os.fstat(file_fd)
        finally:
            os.close(file_fd)

    def _path(self, name: str) -> str:
        return "/".join([*(level.name for level in self._levels[1:]), name])

    def _refuse(self, path: str, code: str, reason: str) -> None:
        if len(self.refused) >= REFUSED_MAX:
            self.refused_more += 1
            return
        self.refused.append(_refused(path, code, reason))


def _is_link(fd: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _advance(parts: _Parts, state: _State, name: str) -> _State:
    """Return the places in a pattern that can be reached by going on with `name`."""
    following: set[int] = set()
    for place in state:
        if place == len(parts):
            continue
        part = parts[place]
        if part is ANY:
            following.add(place)
        elif part.match(name):
            following.add(place + 1)
    return _reachable(parts, following)


def _reachable(parts: _Parts, places: set[int]) -> _State:
    """Add the places after each `**`, which may stand for no folder at all."""
    found = set(places)
    for place, part in enumerate(parts):
        if part is ANY and place in found:
            found.add(place + 1)
    return frozenset(found)


def _refused(path: str, code: str, reason: str) -> Refused:
    printable = path.encode("utf-8", "replace").decode()
    if len(printable) > _PATH_CHARS_SHOWN:
        printable = f"{printable[:_PATH_CHARS_SHOWN]}…"
    return Refused(path=printable or ".", code=code, reason=reason)
