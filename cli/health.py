"""`/healthz`, `/readyz`, `/metrics`, `/state`, for roles that serve no API. Changes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.server import Server, server_of
from cli.process import RoleFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a role is: what stands still of its work, and what is wrong that does not stop it."""

    parts: Mapping[str, object] = field(default_factory=dict)
    """For each part of its work how it stands, for `/readyz`."""
    is_broken: bool = False
    """True if a part stands still until somebody does something."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """What it cannot do and why, by name."""
    fault: str = ""
    """What is wrong with the topics although it works; empty: nothing."""
    clock: str = ""
    """What is wrong with this machine's clock; empty: nothing, or not known."""


def health_app(
    is_ready: Callable[[], bool],
    state: Callable[[], Awaitable[object]] | None = None,
    condition: Callable[[], Condition] = Condition,
) -> Starlette:
    """Return the app; `is_ready` says whether the role does its work now.

    `condition` says more about it. `state` returns what `/state` shows as JSON: what a self-check
    compares with the log.
    """

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        found = condition()
        is_serving = is_ready() and not found.faults
        if is_serving:
            status = "degraded" if found.fault or found.clock else "ready"
        elif found.faults:
            status = "faulty"
        else:
            status = "broken" if found.is_broken else "starting"
        body: dict[str, object] = {"status": status}
        if found.faults:
            body["faults"] = dict(found.faults)
        if found.parts:
            body["partitions"] = found.parts
        if found.fault:
            body["topics"] = found.fault
        if found.clock:
            body["clock"] = found.clock
        return JSONResponse(body, status_code=200 if is_serving else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def show_state(_: Request) -> Response:
        assert state is not None
        return JSONResponse(await state())

    routes = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]
    if state is not None:
        routes.append(Route("/state", show_state))
    return Starlette(routes=routes)


@contextlib.asynccontextmanager
async def serving(app: Starlette, *, host: str, port: int) -> AsyncIterator[None]:
    """Serve `app` while the block runs, within the limits of `api.limits`; nothing at port 0."""
    if not port:
        yield
        return
    server = server_of(app, host=host, port=port)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_serve(server, f"{host}:{port}"))
        try:
            yield
        finally:
            server.should_exit = True
            await task


async def _serve(server: Server, where: str) -> None:
    """Serve until told to stop. Raises `RoleFailed` if it cannot, or ends by itself."""
    try:
        await server.serve()
    except SystemExit as error:  # As uvicorn does, once its log has said why.
        raise RoleFailed(
            f"nothing can be served at {where}: another process has that port, or it is no "
            "address of this machine; name another"
        ) from error
    if not server.should_exit:
        raise RoleFailed(f"the server at {where} ended by itself")
