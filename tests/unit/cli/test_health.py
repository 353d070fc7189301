"""What `/readyz` of a role says: ready, and what is wrong although it is; else why not."""

import asyncio
from typing import Any

import httpx
import pytest

from cli.health import Condition, health_app

STANDS = {"3": {"state": "broken", "code": "journal_broken"}}


def asked(*, is_ready: bool, condition: Condition) -> tuple[int, Any]:
    async def ask() -> tuple[int, Any]:
        app = health_app(lambda: is_ready, condition=lambda: condition)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.get("/readyz")
            return answer.status_code, answer.json()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("is_ready", "condition", "code", "status"),
    [
        (True, Condition(), 200, "ready"),
        (True, Condition(fault="retention"), 200, "degraded"),
        (True, Condition(clock="600 s ahead"), 200, "degraded"),
        (False, Condition(), 503, "starting"),
        (False, Condition(parts=STANDS, is_broken=True), 503, "broken"),
    ],
)
def test_readiness_names_what_is_wrong(
    is_ready: bool, condition: Condition, code: int, status: str
) -> None:
    found, body = asked(is_ready=is_ready, condition=condition)
    assert (found, body["status"]) == (code, status)
    assert body.get("partitions", {}) == condition.parts
    assert body.get("topics", "") == condition.fault
    assert body.get("clock", "") == condition.clock
