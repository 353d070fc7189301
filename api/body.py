"""Reads a request's body within its limits. Never holds more of it than the limit."""

import asyncio
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from api.limits import BODY_READ_S_MAX, DRAIN_BYTES_MAX, DRAIN_S_MAX, JSON_DEPTH_MAX
from api.problems import Problem

DIGITS_MAX = 18


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """Return the body. Raises the 413 or 408 it deserves.

    A body that is too large is read on for a while and thrown away: most clients look at the
    answer only after they have sent everything.
    """
    declared = request.headers.get("content-length", "")
    # More digits than this are no size of anything, and Python reads only so many.
    size = int(declared[:DIGITS_MAX]) if declared.isdecimal() else 0
    chunks: list[bytes] = []
    taken = 0
    stream = request.stream()
    try:
        async with asyncio.timeout(BODY_READ_S_MAX):
            async for chunk in stream:
                taken += len(chunk)
                if max(taken, size) > bytes_max:
                    chunks.clear()
                    break
                chunks.append(chunk)
    except TimeoutError as error:
        detail = f"the body did not arrive within {BODY_READ_S_MAX:.0f} s; send it again"
        raise Problem(408, "body_timeout", detail, headers={"Connection": "close"}) from error
    if max(taken, size) > bytes_max:
        await _drain(request, taken)
        shown = f"{max(taken, size)} bytes" if size else f"more than {bytes_max} bytes"
        detail = (
            f"the body has {shown}, {bytes_max} are allowed; send less at once, "
            "and keep large inputs in files that the bench can fetch"
        )
        raise Problem(413, "body_too_large", detail, headers={"Connection": "close"})
    return b"".join(chunks)


async def _drain(request: Request, taken: int) -> None:
    try:
        async with asyncio.timeout(DRAIN_S_MAX):
            while taken < DRAIN_BYTES_MAX:
                message = await request.receive()
                taken += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except (TimeoutError, ClientDisconnect):
        return


def parse_json(request: Request, body: bytes) -> Any:
    """Return the JSON of a body; None for an empty one. Raises the 400 or 415 it deserves."""
    if not body:
        return None
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        detail = f"the body is {kind!r}; send JSON with Content-Type: application/json"
        raise Problem(415, "unsupported_media_type", detail)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"the body is not JSON: {error}; see /docs for its form"
        raise Problem(400, "invalid_json", detail) from error
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Raise the 422 that a value which is nested too deeply deserves."""
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    detail = f"the body is nested deeper than {JSON_DEPTH_MAX} levels; flatten it"
    raise Problem(422, "invalid_request", detail)
