"""Turns what pydantic finds wrong with a request into a problem that says what is allowed."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from api.problems import Problem

ModelT = TypeVar("ModelT", bound=BaseModel)
ERRORS_SHOWN_MAX = 20


def parse_query(request: Request, model: type[ModelT]) -> ModelT:
    """Return the query parameters as `model`. Raises the 422 they deserve."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            detail = f"query parameter {name} is given twice; give it once"
            raise Problem(422, "invalid_query", detail)
        values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _problem(error, model, where="query", code="invalid_query") from error


def parse_body(value: Any, model: type[ModelT]) -> ModelT:
    """Return a body as `model`. Raises the 422 it deserves."""
    if not isinstance(value, dict):
        detail = "the body is not a JSON object; see /docs for its form"
        raise Problem(422, "invalid_request", detail)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _problem(error, model, where="body", code="invalid_request") from error


def _problem(error: ValidationError, model: type[BaseModel], *, where: str, code: str) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [_describe(entry, model) for entry in found[:ERRORS_SHOWN_MAX]]
    first = errors[0]
    named = next((entry["type"] for entry in found if entry["type"].startswith("invalid_")), code)
    more = f" (and {len(found) - 1} more, see errors)" if len(found) > 1 else ""
    return Problem(
        422, named, f"{where} {first['loc']}: {first['msg']}{more}; see /docs", errors=errors
    )


def _describe(entry: Mapping[str, Any], model: type[BaseModel]) -> Mapping[str, str]:
    loc = [part for part in entry["loc"] if part != "[key]"]
    message = str(entry["msg"])
    if entry["type"] == "extra_forbidden":
        allowed = _allowed(model, loc[:-1])
        message = f"unknown field; allowed: {', '.join(allowed)}"
    return {"loc": ".".join(map(str, loc)), "msg": message}


def _allowed(model: type[BaseModel], loc: Sequence[int | str]) -> Sequence[str]:
    """Return the fields of the model that stands at `loc` within `model`."""
    for part in loc:
        if isinstance(part, str):
            field = model.model_fields.get(part)
            inner = None if field is None else _model_in(field.annotation)
            if inner is not None:
                model = inner
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _model_in(hint: Any) -> type[BaseModel] | None:
    if isinstance(hint, type) and not get_origin(hint) and issubclass(hint, BaseModel):
        return hint
    if get_origin(hint) in (list, dict, Union, types.UnionType):
        return next((found for arg in get_args(hint) if (found := _model_in(arg))), None)
    return None
