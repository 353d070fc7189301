"""JSON as the API writes it: orjson, UTC times with `Z`, and positions as text."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from events.log import Position

_OPTIONS = orjson.OPT_UTC_Z
_POSITION = re.compile(r"(\d{1,5}):(\d{1,18})")


def dumps(value: Any) -> bytes:
    """Return `value` as JSON."""
    return orjson.dumps(value, option=_OPTIONS)


def canonical(value: Any) -> bytes:
    """Return `value` as JSON that is the same for equal values."""
    return orjson.dumps(value, option=_OPTIONS | orjson.OPT_SORT_KEYS)


def json_response(
    body: BaseModel | Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a JSON answer."""
    content = body.model_dump(by_alias=True) if isinstance(body, BaseModel) else body
    return Response(
        dumps(content), status_code=status, headers=headers, media_type="application/json"
    )


def position_text(position: Position) -> str:
    """Return a position as headers have it."""
    return f"{position.partition}:{position.offset}"


def parse_position(text: str) -> Position | None:
    """Return the position `text` says; None if it says none."""
    found = _POSITION.fullmatch(text)
    return None if found is None else Position(int(found[1]), int(found[2]))


def parse_vector(text: str) -> Mapping[int, int] | None:
    """Return offsets by partition of `p:o,p:o…`; None if `text` is something else."""
    vector: dict[int, int] = {}
    for part in text.split(","):
        position = parse_position(part.strip())
        if position is None:
            return None
        vector[position.partition] = position.offset
    return vector


def vector_text(vector: Mapping[int, int]) -> str:
    """Return offsets by partition as event ids have them."""
    return ",".join(f"{partition}:{vector[partition]}" for partition in sorted(vector))
