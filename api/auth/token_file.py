"""Tokens kept in a file of one's own (mode 0600), as SHA-256. Never keeps or logs a token."""

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import orjson

from api.auth.principal import Principal, Role
from events.durable import OWN_MODE, write_whole
from events.errors import TeoError

TOKEN_BYTES = 32
TOKEN_CHARS_MAX = 512
FILE_BYTES_MAX = 1_000_000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


class TokenFileRefused(TeoError):
    """Raised when a token file is missing, readable by others, or not in its form."""

    code = "token_file_refused"


def digest_of(token: str) -> str:
    """Return what the file keeps of `token`. Tokens are random, so a plain hash is enough."""
    return sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Return a fresh random token."""
    return f"teo_{secrets.token_urlsafe(TOKEN_BYTES)}"


def write_token_file(path: Path, principals: Mapping[str, Principal]) -> None:
    """Write the principals by token to `path`, mode 0600 from the first byte on."""
    entries = [
        {"sha256": digest_of(token), "actor": who.actor, "roles": list(who.roles)}
        for token, who in principals.items()
    ]
    _write(path, entries)


def _write(path: Path, entries: Sequence[Mapping[str, object]]) -> None:
    content = orjson.dumps({"tokens": entries}, option=orjson.OPT_INDENT_2) + b"\n"
    write_whole(path, content, mode=OWN_MODE)


def add_to_token_file(path: Path, token: str, who: Principal) -> None:
    """Add one principal to those of `path`, or begin it. Raises `TokenFileRefused`."""
    known = _entries(path) if path.exists() else []
    entry = {"sha256": digest_of(token), "actor": who.actor, "roles": list(who.roles)}
    _write(path, [*known, entry])


def is_actor(name: str) -> bool:
    """Return True if somebody may be called so in a token file."""
    return _ACTOR.fullmatch(name) is not None


class TokenFile:
    """The tokens of a file: `{"tokens": [{"sha256", "actor", "roles"}]}`.

    Read once; `reload` reads it again, and keeps what was there if it is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def reload(self) -> None:
        """Read the file again. Raises `TokenFileRefused` and changes nothing if it must."""
        self._entries = _read(self._path)

    async def authenticate(self, token: str) -> Principal | None:
        """Return who `token` stands for. Compares with every entry, each in constant time."""
        if not token or len(token) > TOKEN_CHARS_MAX:
            return None
        digest = digest_of(token)
        found: Principal | None = None
        for known, principal in self._entries:
            if hmac.compare_digest(known, digest):
                found = principal
        return found


def _read(path: Path) -> Sequence[tuple[str, Principal]]:
    return [_entry(path, entry) for entry in _entries(path)]


def _entries(path: Path) -> list[Mapping[str, object]]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise TokenFileRefused(
            f"token file {path}: {error.strerror}; `teo up` makes one, or name it in the settings"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise TokenFileRefused(
                f"token file {path} has mode {mode:04o}: others can read it; chmod 600 {path}"
            )
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise TokenFileRefused(f"token file {path} is larger than {FILE_BYTES_MAX} bytes")
    try:
        entries: list[Mapping[str, object]] = list(orjson.loads(content)["tokens"])
        for entry in entries:
            _entry(path, entry)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise TokenFileRefused(
            f'token file {path} is not {{"tokens": [{{"sha256", "actor", "roles"}}]}}: {error}'
        ) from error
    return entries


def _entry(path: Path, entry: Mapping[str, object]) -> tuple[str, Principal]:
    digest, actor, roles = entry["sha256"], entry["actor"], entry["roles"]
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise TokenFileRefused(f"token file {path}: sha256 is 64 hex digits, lower case")
    if not (isinstance(actor, str) and _ACTOR.fullmatch(actor)):
        raise TokenFileRefused(
            f"token file {path}: actor {actor!r} is no name; use letters, digits and . _ @ + -"
        )
    if not (isinstance(roles, list) and roles and all(role in Role.__members__ for role in roles)):
        raise TokenFileRefused(
            f"token file {path}: roles of {actor} are some of {', '.join(Role.__members__)}"
        )
    return digest, Principal(actor=actor, roles=tuple(roles))
