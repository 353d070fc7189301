"""Named servers in the user's config: which server, which token; never a token in a shared file.

Order: flag > environment (`TEO_SERVER`, `TEO_TOKEN`, `TEO_CONTEXT`) > user file > system file.
The user file is `~/.config/teo/config.yaml` (or `TEO_CONFIG`); each token has its own file, 0600.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.folders import home
from cli.problems import BadUsage
from events.durable import OWN_MODE, write_whole

SYSTEM_FILE = Path("/etc/teo/config.yaml")
CONFIG_BYTES_MAX = 256 * 1024
TOKEN_BYTES_MAX = 16 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEYS = frozenset({"server", "token_file", "pool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One named server, and the file its token is in."""

    name: str
    server: str
    token_file: Path | None = None
    pool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the files say together; the user's own contexts hide the system's of the same name."""

    current: str | None
    contexts: Mapping[str, Context]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where this command goes, and as whom."""

    server: str
    token: str | None
    context: str | None
    pool: str | None


def user_file(env: Mapping[str, str]) -> Path:
    """Return the user's config file, whether or not it exists."""
    if named := env.get("TEO_CONFIG"):
        return Path(named)
    base = env.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home() / ".config") / "teo" / "config.yaml"


def read(env: Mapping[str, str] | None = None, *, system_file: Path = SYSTEM_FILE) -> Config:
    """Return all contexts. Raises `BadUsage` if a file is no config."""
    user = _read_file(user_file(os.environ if env is None else env))
    system = _read_file(system_file)
    return Config(
        current=user.current or system.current,
        contexts={**system.contexts, **user.contexts},
    )


def resolve(
    *,
    server: str | None,
    token: str | None,
    context: str | None,
    env: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Target:
    """Return where to go. A context's token is only ever sent to that context's own server."""
    env = os.environ if env is None else env
    server = server or env.get("TEO_SERVER") or None
    token = token or env.get("TEO_TOKEN") or None
    named = context or env.get("TEO_CONTEXT") or None
    pool = env.get("TEO_POOL") or None
    if server and token and not named:
        return Target(server=_checked_url(server), token=token, context=None, pool=pool)
    config = read(env, system_file=system_file)
    chosen = _choose(config, named)
    if chosen is None:
        if server is None:
            raise BadUsage(
                "no server is known",
                next_step="start one with `teo up`, or name one with --server or TEO_SERVER",
            )
        return Target(server=_checked_url(server), token=token, context=None, pool=pool)
    url = _checked_url(server or chosen.server)
    if url != _checked_url(chosen.server):
        return Target(server=url, token=token, context=None, pool=pool)
    return Target(
        server=url,
        token=token or read_token(chosen),
        context=chosen.name,
        pool=pool or chosen.pool,
    )


def read_token(context: Context) -> str | None:
    """Return the token of a context, or None if it has none. Raises `BadUsage` if unreadable."""
    path = context.token_file
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(TOKEN_BYTES_MAX).decode("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(
            f"the token file {path} of context {context.name!r} cannot be read: {error}",
            next_step="give the token with --token or TEO_TOKEN",
        ) from error


def write_context(
    name: str,
    *,
    server: str,
    token: str | None,
    pool: str | None = None,
    is_current: bool = True,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Write or replace a context in the user's file; return that file. Safe against a crash."""
    _check_name(name)
    _checked_url(server)
    path = user_file(os.environ if env is None else env)
    raw = _load(path)
    entry: dict[str, Any] = {"server": server}
    if token is not None:
        _write_private(path.parent / "tokens" / name, token + "\n")
        entry["token_file"] = f"tokens/{name}"
    if pool is not None:
        entry["pool"] = pool
    raw["contexts"] = {**_mapping(raw.get("contexts"), path), name: entry}
    if is_current:
        raw["current"] = name
    _save(path, raw)
    return path


def use(name: str, *, env: Mapping[str, str] | None = None) -> None:
    """Make `name` the current context. Raises `BadUsage` if it is not known."""
    env = os.environ if env is None else env
    _choose(read(env), name)
    path = user_file(env)
    raw = _load(path)
    raw["current"] = name
    _save(path, raw)


def give_back(name: str, before: str, *, server: str, env: Mapping[str, str] | None = None) -> bool:
    """Make `before` the current context again, if that is still `name` at `server`."""
    config = read(env)
    if config.current != name or before not in config.contexts:
        return False
    if config.contexts[name].server != server:
        return False
    use(before, env=env)
    return True


def clear(name: str, *, env: Mapping[str, str] | None = None) -> bool:
    """Forget a context of the user's file and its token; return False if it was not there."""
    _check_name(name)
    path = user_file(os.environ if env is None else env)
    raw = _load(path)
    known = _mapping(raw.get("contexts"), path)
    if name not in known:
        return False
    with _written(path), contextlib.suppress(FileNotFoundError):
        (path.parent / "tokens" / name).unlink()
    raw["contexts"] = {key: value for key, value in known.items() if key != name}
    if raw.get("current") == name:
        raw["current"] = None
    _save(path, raw)
    return True


def _choose(config: Config, named: str | None) -> Context | None:
    name = named or config.current
    if name is None:
        return None
    if name not in config.contexts:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise BadUsage(
            f"no context is named {name!r} (known: {known})",
            next_step="choose one with `teo config use NAME` or --context NAME",
        )
    return config.contexts[name]


def _read_file(path: Path) -> Config:
    raw = _load(path)
    contexts = {
        name: _context(name, entry, path)
        for name, entry in _mapping(raw.get("contexts"), path).items()
    }
    current = raw.get("current")
    return Config(current=str(current) if current else None, contexts=contexts)


def _context(name: str, entry: object, path: Path) -> Context:
    fields = _mapping(entry, path)
    unknown = sorted(set(fields) - _KEYS)
    if unknown or not isinstance(fields.get("server"), str):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "no `server`"
        raise BadUsage(
            f"{path}: context {name!r} has {wrong}",
            next_step="it may have server, token_file and pool",
        )
    token_file = fields.get("token_file")
    return Context(
        name=name,
        server=fields["server"],
        token_file=(path.parent / Path(str(token_file)).expanduser()) if token_file else None,
        pool=fields.get("pool"),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BadUsage(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise BadUsage(f"{path} has more than {CONFIG_BYTES_MAX} bytes: it is no config of teo")
    import yaml  # It costs a third of a short command's time, and most of the time is not needed.

    try:
        loaded = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise BadUsage(f"{path} is no YAML: {error}", next_step="mend or remove it") from error
    return _mapping(loaded, path)


def _mapping(value: object, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadUsage(f"{path}: a mapping was expected where it says {value!r}")
    return {str(key): entry for key, entry in value.items()}


def _save(path: Path, raw: Mapping[str, Any]) -> None:
    import yaml

    _write_private(path, yaml.safe_dump(dict(raw), sort_keys=False))


def _write_private(path: Path, text: str) -> None:
    """Replace `path` in one step with a file only this user can read. Raises `BadUsage`."""
    with _written(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, text, mode=OWN_MODE)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadUsage(
            f"{path} cannot be written: {error.strerror or error}",
            next_step="name a file of your own with TEO_CONFIG, or use TEO_SERVER and TEO_TOKEN",
        ) from error


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadUsage(
            f"{name!r} is no name for a context",
            next_step="use letters, digits, '.', '_' and '-', at most 64",
        )


def _checked_url(server: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", server):
        raise BadUsage(
            f"{server!r} is no address of a server", next_step="write it like http://HOST:PORT"
        )
    try:
        port = urlsplit(server).port
    except ValueError as error:
        raise BadUsage(
            f"{server!r} has no port that there is: {error}",
            next_step="write it like http://HOST:PORT, with a port from 1 to 65535",
        ) from error
    if port == 0:
        raise BadUsage(f"{server!r} names port 0", next_step="write it like http://HOST:PORT")
    return server.rstrip("/")
