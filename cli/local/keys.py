"""The token of a data folder's user, and what the API knows of it; heals what a power cut emptied.

The tokens of others are kept, whatever becomes of the user's own.
"""

import asyncio
import getpass
from pathlib import Path

from api.auth.principal import Principal
from api.auth.token_file import TokenFile, add_to_token_file, is_actor, new_token
from events.durable import OWN_MODE, write_whole

TOKEN_FILE, TOKENS_FILE = "token", "tokens.json"
BYTES_READ = 1024
TOKEN_CHARS_MIN = 20


async def ready_token(folder: Path) -> str:
    """Return the token of this folder's user, one that the API takes; made once.

    Raises `TokenFileRefused` for what the API knows, if a person must mend it.
    """
    kept, known = folder / TOKEN_FILE, folder / TOKENS_FILE
    token = await asyncio.to_thread(_read, kept)
    if not await asyncio.to_thread(_read, known):
        known.unlink(missing_ok=True)  # Nobody stands in it.
    elif token:
        if await TokenFile(known).authenticate(token) is not None:
            return token
        token = ""  # It was taken back: the same one must not be let in again.
    if not token.isascii() or len(token) < TOKEN_CHARS_MIN:
        token = new_token()  # What is left of a torn one could be guessed.
    add_to_token_file(known, token, Principal(actor=_user(), roles=("admin",)))
    write_whole(kept, token + "\n", mode=OWN_MODE)
    return token


def _read(path: Path) -> str:
    """Return the beginning of a file; nothing if there is none, or only what a power cut leaves."""
    try:
        with path.open("rb") as file:
            return file.read(BYTES_READ).decode("ascii", "replace").strip("\0 \r\n\t")
    except FileNotFoundError:
        return ""


def _user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container's user without a name.
        return "local"
    return user if is_actor(user) else "local"
