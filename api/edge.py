"""The edge every request passes: who asks, within which limits, in which form.

One endpoint serves all operations of a path. Never lets a handler see what was not checked.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from urllib.parse import urlencode

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth.principal import Principal
from api.body import parse_json, read_body
from api.call import Call
from api.encoding import canonical, parse_position
from api.limits import HEADER_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX, POSITION_WAIT_S
from api.models.queries import Query
from api.operations import METHODS_THAT_CHANGE, Operation
from api.problems import Problem, method_not_allowed
from api.service import Service
from api.sse import MEDIA_TYPE, EventStream
from api.tracing import current
from api.validation import parse_body, parse_query

COOKIE = "teo_token"
_KEY = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}")


class PathEndpoint:
    """All operations of one path, as an ASGI app."""

    def __init__(self, operations: Sequence[Operation], service: Service) -> None:
        self._operations: Mapping[str, Operation] = {each.method: each for each in operations}
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, send)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        if operation is None:
            allowed = sorted({*self._operations, *(["HEAD"] if "GET" in self._operations else [])})
            raise method_not_allowed(request.method, request.url.path, allowed=allowed)
        request.state.operation = operation.name
        _check_headers(request)
        principal = await self._principal(request, operation)
        query = parse_query(request, operation.query)
        value, body = None, None
        if operation.body is not None:
            bytes_max = self._service.deps.settings.body_bytes_max
            raw = await read_body(request, bytes_max=bytes_max)
            value = parse_json(request, raw)
            if value is None and operation.is_body_optional:
                value = {}
            body = parse_body(value, operation.body)
        call = Call(
            request=request,
            service=self._service,
            principal=principal,
            trace=current(otel_context.get_current()),
            query=query,
            body=body,
            request_hash=_hash(request, value),
            idempotency_key=_idempotency_key(request),
        )
        structlog.contextvars.bind_contextvars(trace_id=call.trace.trace_id)
        await self._at_least(query)
        response = await operation.handler(call)
        if request.method == "HEAD" and isinstance(response, EventStream):
            return Response(media_type=MEDIA_TYPE)
        return response

    async def _principal(self, request: Request, operation: Operation) -> Principal | None:
        if operation.role is None:
            return None
        principal = await authenticated(request, self._service)
        if principal is None:
            detail = (
                "this call needs a token that is known here: send Authorization: Bearer TOKEN, "
                "or name it to the CLI with --token or TEO_TOKEN; `teo up` prints its own"
            )
            headers = {"WWW-Authenticate": 'Bearer realm="teo"'}
            raise Problem(401, "not_authenticated", detail, headers=headers)
        structlog.contextvars.bind_contextvars(actor=principal.actor)
        trace.get_current_span().set_attribute("enduser.id", principal.actor)
        if not principal.may(operation.role):
            detail = (
                f"{principal.actor} has the roles {', '.join(principal.roles) or 'none'}; "
                f"{operation.summary.lower()} needs {operation.role.name}: ask an admin for it"
            )
            raise Problem(403, "role_missing", detail)
        return principal

    async def _at_least(self, query: Query) -> None:
        """Wait until the read model has reached `min_position`."""
        position = None if query.min_position is None else parse_position(query.min_position)
        if position is None:
            return
        if not await self._service.reads.wait_for(position, wait_s=POSITION_WAIT_S):
            detail = (
                f"position {query.min_position} is not projected here after "
                f"{POSITION_WAIT_S:.0f} s; ask again, or check that it is a TEO-Position"
            )
            raise Problem(503, "projection_behind", detail, headers={"Retry-After": "1"})


async def authenticated(request: Request, service: Service) -> Principal | None:
    """Return who asks, by header; for reads by a browser also by the dashboard's cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return await service.deps.authenticator.authenticate(token.strip())
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and request.method not in METHODS_THAT_CHANGE:
        return await service.deps.authenticator.authenticate(cookie)
    return None


def _check_headers(request: Request) -> None:
    size = sum(len(name) + len(value) for name, value in request.headers.raw)
    if size > HEADER_BYTES_MAX:
        detail = f"the headers have {size} bytes, {HEADER_BYTES_MAX} are allowed; send fewer"
        raise Problem(431, "headers_too_large", detail)


def _idempotency_key(request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if not keys or request.method not in METHODS_THAT_CHANGE:
        return None
    key = keys[0]
    if len(keys) > 1 or not _KEY.fullmatch(key):
        detail = (
            f"Idempotency-Key is 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters "
            "without spaces, given once; a UUID does well"
        )
        raise Problem(422, "invalid_idempotency_key", detail)
    return key


def _hash(request: Request, value: object) -> str:
    """Return the hash that tells one request from another under the same key."""
    query = sorted(pair for pair in request.query_params.multi_items() if pair[0] != "min_position")
    parts = (request.method.encode(), request.url.path.encode(), urlencode(query).encode())
    return sha256(b"\0".join((*parts, canonical(value)))).hexdigest()
