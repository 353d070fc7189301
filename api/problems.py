"""Errors as RFC 9457 problems: each names the thing and the next step. Never leaks a stack."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from events.errors import TeoError
from projections.rows import CommandRow

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"

_STATUS_OF_CODE: Mapping[str, int] = {
    "no_such_pool": 404,
    "no_such_bench": 404,
    "no_such_reservation": 404,
    "no_such_execution": 404,
    "no_matching_bench": 409,
    "not_owner": 403,
    "not_quarantined": 409,
    "already_quarantined": 409,
    "reservation_ended": 409,
    "execution_finished": 409,
}
_TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request took too long",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Invalid request",
    429: "Too many at once",
    431: "Headers too large",
    500: "Internal error",
    503: "Not available now",
}


class Problem(Exception):
    """Raised when a request cannot be served; becomes the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        command_id: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.command_id = command_id
        self.errors = errors
        self.headers = dict(headers or {})


def status_of_rejection(code: str) -> int:
    """Return the HTTP status of a `CommandRejected.code`."""
    known = _STATUS_OF_CODE.get(code)
    if known is not None:
        return known
    if code.startswith("invalid_"):
        return 422
    return 404 if code.startswith("no_such_") else 409


_ASIDE_NEXT_STEPS: Mapping[str, str] = {
    "too_late": (
        "a clock was off by a day or more: see `clock` of /readyz, then ask anew, with a fresh "
        "Idempotency-Key"
    ),
    "misplaced": "send it through the API, or with the pool as its key, as every Kafka client's "
    "default chooses the partition",
    "record_too_big": "what it leads to is more than the log takes: ask for less at once",
    "crashed": "it is an error of ours: the scheduler's log has it, and `teo dlq list` the command",
}
_ASIDE_NEXT_STEP = "the API and the scheduler run different versions: run the same"


def set_aside(row: CommandRow, headers: Mapping[str, str]) -> Problem:
    """Return the problem of a command that could not be decided: it changed nothing."""
    step = _ASIDE_NEXT_STEPS.get(row.code, _ASIDE_NEXT_STEP)
    detail = f"command {row.id} could not be decided ({row.code}): {row.reason}; {step}"
    is_too_big = row.code == "record_too_big"
    status, code = (413, "command_too_big") if is_too_big else (409, "command_set_aside")
    return Problem(status, code, detail, command_id=row.id, headers=headers)


def not_found(kind: str, identity: str, *, hint: str) -> Problem:
    """Return the 404 for a thing of `kind` that is not known."""
    name = kind.replace("_", " ")
    return Problem(404, f"no_such_{kind}", f"there is no {name} {identity}; {hint}")


def to_response(problem: Problem, *, instance: str | None = None) -> Response:
    """Return the answer a problem becomes."""
    body: dict[str, Any] = {
        "type": f"urn:teo:problem:{problem.code}",
        "title": _TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if instance is not None:
        body["instance"] = instance
    if problem.command_id is not None:
        body["command_id"] = problem.command_id
    if problem.errors:
        body["errors"] = list(problem.errors)
    return Response(
        orjson.dumps(body),
        status_code=problem.status,
        headers=problem.headers,
        media_type=PROBLEM_JSON,
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler of `Problem`."""
    assert isinstance(error, Problem)
    return to_response(error, instance=request.url.path)


async def on_teo_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of errors of the log and the database: they may be there in a moment."""
    assert isinstance(error, TeoError)
    log.warning("request.log_failed", path=request.url.path, code=error.code, error=str(error))
    detail = f"this cannot be served now ({error}); try again in a moment"
    problem = Problem(503, error.code, detail, headers={"Retry-After": "2"})
    return to_response(problem, instance=request.url.path)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler of its own errors: no route, a route without this method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        problem = Problem(404, "no_such_path", f"there is nothing at {path}; /docs lists what is")
    elif error.status_code == 405:
        problem = method_not_allowed(request.method, path, allowed=())
    else:
        problem = Problem(error.status_code, "http_error", str(error.detail))
    problem.headers.update(error.headers or {})
    return to_response(problem, instance=path)


def method_not_allowed(method: str, path: str, *, allowed: Sequence[str]) -> Problem:
    """Return the 405 that names the methods there are."""
    there = f"it takes {', '.join(allowed)}" if allowed else "/docs lists what it takes"
    headers = {"Allow": ", ".join(allowed)} if allowed else {}
    return Problem(405, "method_not_allowed", f"{path} takes no {method}; {there}", headers=headers)
