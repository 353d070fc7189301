"""One request on its way through the edge: who asks, what for, in which trace. Data only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from api.auth.principal import Principal
from api.tracing import Trace

if TYPE_CHECKING:
    from api.service import Service

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that passed authentication and the checks of form."""

    request: Request
    service: "Service"
    principal: Principal | None
    trace: Trace
    query: BaseModel
    body: BaseModel | None
    request_hash: str
    idempotency_key: str | None

    @property
    def actor(self) -> Principal:
        """Return who asks, on an operation that is not open to everybody."""
        assert self.principal is not None, self.request.url.path
        return self.principal

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        value: str = self.request.path_params[name]
        return value

    def query_as(self, model: type[ModelT]) -> ModelT:
        """Return the query parameters as the model the operation declares."""
        assert isinstance(self.query, model), f"{self.request.url.path} declares {self.query!r}"
        return self.query

    def body_as(self, model: type[ModelT]) -> ModelT:
        """Return the body as the model the operation declares."""
        assert isinstance(self.body, model), f"{self.request.url.path} declares {self.body!r}"
        return self.body
