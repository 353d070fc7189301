"""The `config` of a bench of the local adapter; never ignores what it does not know."""

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import AdapterError, Bench, InvalidConfig

KEYS = ("copy", "directory", "merge_streams", "pass_env")

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

    def base_env(self) -> dict[str, str]:
        """Return what the test gets of the worker's environment."""
        patterns = (*BASE_ENV, *self.pass_env)
        return {
            name: value
            for name, value in os.environ.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }

    def check_folders(self) -> None:
        """Raise `AdapterError` if a folder the config names cannot be used now."""
        for key, folder in (("directory", self.directory), ("copy", self.copy)):
            if folder is not None and not (
                folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
            ):
                raise AdapterError(
                    f"config.{key} of the bench names {folder}, which is not a folder this worker "
                    "can read; make it, or correct the bench file",
                    code="directory_missing",
                )


def local_config(bench: Bench) -> LocalConfig:
    """Return the config of `bench`. Raises `InvalidConfig`."""
    unknown = sorted(set(bench.config) - set(KEYS))
    if unknown:
        raise InvalidConfig(
            f"bench {bench.name}: the local adapter knows no config {', '.join(unknown)}; "
            f"it knows {', '.join(KEYS)}"
        )
    config = LocalConfig(
        directory=_folder(bench, "directory"),
        copy=_folder(bench, "copy"),
        merge_streams=_flag(bench.config, bench.name, "merge_streams"),
        pass_env=_names(bench.config, bench.name, "pass_env"),
    )
    if config.directory and config.copy:
        raise InvalidConfig(f"bench {bench.name}: config has both directory and copy; keep one")
    return config


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
