"""Whether the process is alive and can serve, and its metrics. Open to everybody."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api.call import Call
from api.encoding import json_response
from api.limits import READY_S_MAX
from api.models.answers import Check, Readiness, Status
from api.operations import Operation
from api.service import Service
from projections.rows import Health

BEHIND_MAX = 10_000
"""With more events not applied yet the answers would be too old: not ready."""


async def healthz(call: Call) -> Response:
    """Alive: the loop serves requests."""
    del call
    return json_response(Status(status="ok"))


async def readyz(call: Call) -> Response:
    """Ready: the projection is level and the parts run."""
    service = call.service
    try:
        async with asyncio.timeout(READY_S_MAX):
            health = await service.reads.health()
    except TimeoutError:
        detail = f"the log did not answer within {READY_S_MAX:.0f} s"
        health = Health(is_live=False, behind=0, detail=detail)
    is_level = health.is_live and health.behind <= BEHIND_MAX
    checks = {
        "parts": Check(is_ok=service.failure is None, detail=service.failure or "all run"),
        "projection": Check(
            is_ok=is_level, detail=health.detail or f"{health.behind} events behind"
        ),
        "logs": Check(
            is_ok=service.tail.is_ready,
            detail="the log topic is read" if service.tail.is_ready else "not read yet",
        ),
    }
    is_ready = all(check.is_ok for check in checks.values())
    # A clock that is off decides nothing: it is told, and the API serves.
    clock = service.clock.measure()
    checks["clock"] = Check(is_ok=not clock.is_off, detail=clock.text())
    checks |= await _concerns(service)
    is_well = all(check.is_ok for check in checks.values())
    status = "not_ready" if not is_ready else "ready" if is_well else "degraded"
    return json_response(Readiness(status=status, checks=checks), status=200 if is_ready else 503)


async def _concerns(service: Service) -> dict[str, Check]:
    """Return what is wrong elsewhere: this process serves, and others may not."""
    fault = service.deps.topics_fault()
    unserved = service.partitions.unserved()
    said = "all are served"
    if unserved:
        rows = await service.reads.pools()
        pools = service.partitions.of_pools(row.pool for row in rows)
        said = "; ".join(
            f"{each.told()}{_of_pools(pools.get(each.partition, []))}" for each in unserved
        )
    return {
        "partitions": Check(is_ok=not unserved, detail=said),
        "topics": Check(is_ok=not fault, detail=fault or "their retention loses no facts"),
    }


def _of_pools(pools: Sequence[str]) -> str:
    return f" (pools: {', '.join(pools)})" if pools else ""


async def get_metrics(call: Call) -> Response:
    """Metrics in the text form of Prometheus."""
    call.service.clock.measure()
    content = generate_latest(call.service.deps.registry)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


_TAG = "Health"

OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        name="healthz",
        summary="See whether the process is alive",
        handler=healthz,
        tag=_TAG,
        role=None,
        answer=Status,
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="readyz",
        summary="See whether the process can serve",
        handler=readyz,
        tag=_TAG,
        role=None,
        answer=Readiness,
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Get metrics",
        handler=get_metrics,
        tag=_TAG,
        role=None,
        media={"text/plain": "Prometheus text."},
    ),
)
