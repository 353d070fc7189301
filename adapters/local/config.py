"""The `config` of a bench of the local adapter; never ignores what it does not know."""

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from adapters.contract import (
    NO_ALLOWANCE,
    NO_LIMITS,
    AdapterError,
    Allowed,
    Bench,
    InvalidConfig,
    Limits,
)
from adapters.grammar import unsayable
from adapters.sizes import parse_size, size_text

KEYS = (
    *("copy", "directory", "merge_streams", "pass_env", "user", "privileges"),
    *("memory_max", "processes_max", "disk_max"),
)
KEEP = "keep"
BYTES_MAX, PROCESSES_MAX = 1 << 50, 1 << 22
"""The most that a limit may be, of a run too (`events/limits.py`): the kernel takes no more."""

BASE_ENV = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
)
"""What a test gets of the worker's own environment, which also holds the worker's secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """How attempts run on a bench of this machine."""

    directory: Path | None = None
    """The test runs here instead of in its workspace; files it writes here stay."""
    copy: Path | None = None
    """A folder whose content is copied into the workspace first."""
    merge_streams: bool = False
    """stderr goes where stdout goes: the exact order, but the lines are not told apart."""
    pass_env: tuple[str, ...] = ()
    """Names or patterns of more variables of the worker that the test gets."""
    user: str | None = None
    """Who the test runs as, if the worker is root (`owner.py`); None: as the worker."""
    keeps_privileges: bool = False
    """The test may become more than it is (`sudo`), and a root may look into other processes."""
    limits: Limits = NO_LIMITS
    """What each test may use at most on this bench, whatever its run asks for."""

    def base_env(self) -> dict[str, str]:
        """Return what the test gets of the worker's environment."""
        patterns = (*BASE_ENV, *self.pass_env)
        return {
            name: value
            for name, value in os.environ.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }

    def check_allowed(self, bench: str, allowed: Allowed) -> None:
        """Raise `InvalidConfig` if the config reaches for more of the worker than it gives."""
        for pattern in self.pass_env:
            if not any(_is_within(pattern, given) for given in allowed.env):
                raise InvalidConfig(
                    f"bench {bench}: config.pass_env asks for {pattern}, which this worker does "
                    f"not give; start it with `--allow-env {pattern}`, or take the key out"
                )
        for key, folder in (("directory", self.directory), ("copy", self.copy)):
            if folder is not None:
                _check_folder(bench, key, folder, allowed)

    def check_folders(self) -> None:
        """Raise `AdapterError` if a folder the config names cannot be used now."""
        for key, folder in (("directory", self.directory), ("copy", self.copy)):
            # Not `Path.is_dir`, which raises for a path that is too long.
            if folder is not None and not (
                os.path.isdir(folder)  # noqa: PTH112
                and os.access(folder, os.R_OK | os.X_OK)
            ):
                raise AdapterError(
                    f"config.{key} of the bench names {folder}, which is not a folder this worker "
                    "can read; make it, or correct the bench file",
                    code="directory_missing",
                )


def _is_within(pattern: str, given: str) -> bool:
    """Return whether each name that `pattern` matches is matched by `given` too."""
    if pattern == given:
        return True
    # A pattern is itself matched as a text: `CAN_*` by `CAN_*` and by `*`, and `*` by `*` alone;
    # `?` and `[…]` would match its `*` as a sign like any other.
    wild, single = set(pattern) & set("*?["), set(given) & set("?[")
    return fnmatch.fnmatchcase(pattern, given) and (not wild or (wild == {"*"} and not single))


def _check_folder(bench: str, key: str, folder: Path, allowed: Allowed) -> None:
    try:
        real = folder.resolve()  # A link leads where it leads, whatever it is called.
    except (OSError, RuntimeError) as error:
        raise InvalidConfig(
            f"bench {bench}: config.{key} names {folder}, which leads nowhere: {error}"
        ) from error
    for ours in map(Path.resolve, allowed.secret_folders):
        if real.is_relative_to(ours) or ours.is_relative_to(real):
            raise InvalidConfig(
                f"bench {bench}: config.{key} names {folder}, and {ours} is of this lab itself: "
                "tokens and other tests are in there; name another folder"
            )
    if not any(real.is_relative_to(given.resolve()) for given in allowed.folders):
        given = ", ".join(map(str, allowed.folders)) or "none"
        raise InvalidConfig(
            f"bench {bench}: config.{key} names {folder}, and this worker lets benches reach "
            f"{given}; start it with `--allow-dir {folder}`, or take the key out of the bench file"
        )


def local_config(bench: Bench, allowed: Allowed = NO_ALLOWANCE) -> LocalConfig:
    """Return the config of `bench`. Raises `InvalidConfig`, also for what is not allowed."""
    unknown = sorted(set(bench.config) - set(KEYS))
    if unknown:
        raise InvalidConfig(
            f"bench {bench.name}: the local adapter knows no config {', '.join(unknown)}; "
            f"it knows {', '.join(KEYS)}"
        )
    _check_texts(bench)
    config = LocalConfig(
        directory=_folder(bench, "directory"),
        copy=_folder(bench, "copy"),
        merge_streams=_flag(bench.config, bench.name, "merge_streams"),
        pass_env=_names(bench.config, bench.name, "pass_env"),
        user=_text(bench.config, bench.name, "user"),
        keeps_privileges=_keeps_privileges(bench),
        limits=_limits(bench),
    )
    if config.directory and config.copy:
        raise InvalidConfig(f"bench {bench.name}: config has both directory and copy; keep one")
    config.check_allowed(bench.name, allowed)
    return config


def _check_texts(bench: Bench) -> None:
    """Raise `InvalidConfig` for a text that no call of the operating system takes."""
    for key, value in bench.config.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (what := unsayable(text)):
                raise InvalidConfig(f"bench {bench.name}: config.{key} {what}")


def _folder(bench: Bench, key: str) -> Path | None:
    value = bench.config.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise InvalidConfig(
            f"bench {bench.name}: config.{key} must be an absolute path, not {value!r}"
        )
    return Path(value)


def _flag(config: Mapping[str, object], bench: str, key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise InvalidConfig(f"bench {bench}: config.{key} must be true or false, not {value!r}")
    return value


def _names(config: Mapping[str, object], bench: str, key: str) -> tuple[str, ...]:
    value = config.get(key, [])
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise InvalidConfig(f"bench {bench}: config.{key} must be a list of names, not {value!r}")


def _text(config: Mapping[str, object], bench: str, key: str) -> str | None:
    value = config.get(key)
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidConfig(f"bench {bench}: config.{key} must be a name, not {value!r}")


def _keeps_privileges(bench: Bench) -> bool:
    value = bench.config.get("privileges", "none")
    if value not in ("none", KEEP):
        raise InvalidConfig(
            f"bench {bench.name}: config.privileges must be 'none' or {KEEP!r}, not {value!r}"
        )
    return value == KEEP


def _limits(bench: Bench) -> Limits:
    return Limits(
        memory_max_bytes=_size(bench, "memory_max"),
        processes_max=_count(bench, "processes_max"),
        disk_max_bytes=_size(bench, "disk_max"),
    )


def _count(bench: Bench, key: str) -> int | None:
    value = bench.config.get(key)
    if value is None or _is_count(value, PROCESSES_MAX):
        return value
    raise InvalidConfig(
        f"bench {bench.name}: config.{key} must be a number from 1 to {PROCESSES_MAX}, "
        f"not {value!r}"
    )


def _size(bench: Bench, key: str) -> int | None:
    value = bench.config.get(key)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidConfig(f"bench {bench.name}: config.{key}: {error}") from error
    if size is None or _is_count(size, BYTES_MAX):
        return size
    raise InvalidConfig(
        f"bench {bench.name}: config.{key} must be a size above 0 such as 512M, at most "
        f"{size_text(BYTES_MAX)}, not {value!r}"
    )


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
