"""An operation of the API, declared once: routing, checks and OpenAPI come from the declaration.

Data only.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel
from starlette.responses import Response

from api.auth.principal import Role
from api.models.queries import Query

if TYPE_CHECKING:
    from api.call import Call

Handler = Callable[["Call"], Awaitable[Response]]

METHODS_THAT_CHANGE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path. `role` None: open to everybody. `media`: answers beside JSON."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    tag: str
    role: Role | None = Role.viewer
    query: type[Query] = Query
    body: type[BaseModel] | None = None
    is_body_optional: bool = False
    answer: type[BaseModel] | None = None
    status: int = 200
    media: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    is_command: bool = False
