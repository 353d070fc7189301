"""How the app is served: uvicorn within named limits. Takes no signal and logs no line itself."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette

from api.connections import BoundedProtocol, Doors, connections_max
from api.limits import KEEP_ALIVE_S, STOP_S_MAX


def server_of(app: Starlette, *, host: str, port: int) -> "Server":
    """Return a server of `app`; the role that runs it sets `should_exit` to stop it.

    Set `Deps.stopping` first: open streams end at once, and other requests get `STOP_S_MAX`.
    """
    protocol: Any = partial(BoundedProtocol, Doors(connections_max()))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=STOP_S_MAX,
    )
    return Server(config)


class Server(uvicorn.Server):
    """A server that leaves the signals to the role it belongs to."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield
