"""Finds the files of a workspace that globs name; never follows anything out of it.

Syntax: POSIX and relative; `*`, `?` and `[…]` within a name, `**` for any number of folders, a
trailing `/` for everything below a folder. Names that begin with a dot are like any other.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import AdapterError, Refused

GLOB_CHARS_MAX = 1024
GLOB_PARTS_MAX = 64
FILES_MAX = 10_000
ENTRIES_MAX = 500_000

_ANY = None
_Part = re.Pattern[str] | None
_State = frozenset[int]


class GlobRefused(AdapterError):
    """Raised when a glob could name something outside of the workspace, or is no glob at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="glob_refused", retriable=False, fault="asker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What globs found below one folder: paths relative to it, POSIX, sorted."""

    paths: tuple[str, ...]
    refused: tuple[Refused, ...]


def check_globs(globs: Sequence[str]) -> None:
    """Raise `GlobRefused` for the first of `globs` that may not be used."""
    for glob in globs:
        _parts(glob)


def match_files(root: Path, globs: Sequence[str]) -> Matched:
    """Return the regular files below `root` that any of `globs` names.

    A link that leads out of `root`, a device or a pipe is refused by name and the rest is found.
    Raises `GlobRefused`.
    """
    patterns = tuple(_parts(glob) for glob in globs)
    if not patterns:
        return Matched(paths=(), refused=())
    real_root = root.resolve()
    paths: list[str] = []
    refused: list[Refused] = []
    start = tuple(_reachable(parts, {0}) for parts in patterns)
    for looked_at, (path, is_match) in enumerate(_walk(root, "", patterns, start)):
        if looked_at >= ENTRIES_MAX or len(paths) >= FILES_MAX:
            limit = f"over {FILES_MAX} files match, or over {ENTRIES_MAX} were looked at"
            refused.append(_refused(path, "too_many_files", f"{limit}: narrow the globs"))
            break
        if is_match:
            problem = _problem(real_root, path)
            refused.extend([problem] if problem else [])
            paths.extend([] if problem else [path])
    return Matched(paths=tuple(sorted(paths)), refused=tuple(refused))


def _parts(glob: str) -> tuple[_Part, ...]:
    if not glob or len(glob) > GLOB_CHARS_MAX or "\0" in glob:
        raise GlobRefused(f"glob {glob[:100]!r} is empty, too long or holds a NUL")
    if glob.startswith(("/", "~")) or "\\" in glob:
        raise GlobRefused(f"glob {glob!r} must be relative to the workspace, with / between names")
    names = [name for name in glob.split("/") if name not in {"", "."}]
    if ".." in names:
        raise GlobRefused(f"glob {glob!r} climbs out of the workspace: take out the '..'")
    if glob.endswith("/") or (names and names[-1] == "**"):
        names += ["**", "*"]
    if not names or len(names) > GLOB_PARTS_MAX:
        raise GlobRefused(f"glob {glob[:100]!r} names nothing, or is over {GLOB_PARTS_MAX} deep")
    return tuple(_ANY if name == "**" else re.compile(fnmatch.translate(name)) for name in names)


def _walk(
    folder: Path, prefix: str, patterns: tuple[tuple[_Part, ...], ...], states: tuple[_State, ...]
) -> Iterator[tuple[str, bool]]:
    """Yield each file under `folder` that a pattern could reach, and whether one names it."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return  # It vanished, or the test made it unreadable: there is nothing to collect.
    for entry in listed:
        path = f"{prefix}{entry.name}"
        after = tuple(
            _advance(parts, state, entry.name)
            for parts, state in zip(patterns, states, strict=True)
        )
        if not entry.is_dir(follow_symlinks=False):
            ends = zip(patterns, after, strict=True)
            yield path, any(len(parts) in state for parts, state in ends)
        elif any(after):
            yield from _walk(folder / entry.name, f"{path}/", patterns, after)


def _advance(parts: tuple[_Part, ...], state: _State, name: str) -> _State:
    """Return the places in a pattern that can be reached by going on with `name`."""
    following: set[int] = set()
    for place in state:
        if place == len(parts):
            continue
        part = parts[place]
        if part is _ANY:
            following.add(place)
        elif part.match(name):
            following.add(place + 1)
    return _reachable(parts, following)


def _reachable(parts: tuple[_Part, ...], places: set[int]) -> _State:
    """Add the places after each `**`, which may stand for no folder at all."""
    found = set(places)
    for place, part in enumerate(parts):
        if part is _ANY and place in found:
            found.add(place + 1)
    return frozenset(found)


def _problem(root: Path, path: str) -> Refused | None:
    """Say why a file may not be collected; None: it may."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _refused(path, "invalid_name", "the name of the file is not UTF-8")
    try:
        real = (root / path).resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        return _refused(path, "unreadable", f"cannot be read: {error}")
    if not real.is_relative_to(root):
        return _refused(path, "outside_workspace", f"is a link out of the workspace, to {real}")
    if not stat.S_ISREG(mode):
        return _refused(path, "not_a_file", "is not a regular file")
    return None


def _refused(path: str, code: str, reason: str) -> Refused:
    printable = path.encode("utf-8", "replace").decode()
    return Refused(path=printable, code=code, reason=reason)
