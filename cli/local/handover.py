"""The environment of a role, given to it once nobody else of its user can look into it.

What a process is started with stands in `/proc` from its first moment, and it cannot hide before it
runs: a test that kills a role could read there what its successor is started with. So a role begins
with what tests get anyway, hides, says so through a socket, and gets the rest.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase

from adapters.local.config import BASE_ENV
from adapters.local.confine import hide

ENVIRONMENT_FD = "TEO_ENVIRONMENT_FD"
INSPECTABLE = "TEO_INSPECTABLE"
PLAIN = (*BASE_ENV, "LD_*", "PYTHON*", INSPECTABLE)
"""What an interpreter must have from the start; it is no secret of a worker."""
BEGIN_S_MAX = 60.0
_HIDDEN = b"\0"
_CHUNK_BYTES = 1 << 16


def parted(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a role is started with, and what it is given later."""
    plain = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in PLAIN)
    }
    return plain, {name: value for name, value in environ.items() if name not in plain}


async def hand_over(ours: socket.socket, later: Mapping[str, str]) -> None:
    """Give a role the rest of its environment once it says that it hides. Closes the socket."""
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    with ours, suppress(OSError, TimeoutError):
        async with asyncio.timeout(BEGIN_S_MAX):
            if await loop.sock_recv(ours, 1):
                await loop.sock_sendall(ours, json.dumps(dict(later)).encode())


def take_over() -> None:
    """Hide, and take the rest of the environment from who started this process, if it has it."""
    number = os.environ.pop(ENVIRONMENT_FD, "")
    if not number:
        return
    if not os.environ.get(INSPECTABLE):
        hide()
    with socket.socket(fileno=int(number)) as theirs:
        theirs.sendall(_HIDDEN)
        text = b"".join(iter(lambda: theirs.recv(_CHUNK_BYTES), b""))
    # Nothing comes of one that is dead: this ends us too.
    for name, value in json.loads(text).items():
        os.environ.setdefault(name, value)
