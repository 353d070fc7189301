"""The OpenAPI 3.1 document, generated from the operations and their models. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from api.models.answers import Pending, ProblemDetails
from api.operations import METHODS_THAT_CHANGE, Operation
from api.problems import PROBLEM_JSON

Json = dict[str, Any]
Refs = Mapping[tuple[type[BaseModel], str], Json]
_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"\{(\w+)(:name)?\}")
_MEANING = {
    400: "The body is not JSON.",
    401: "No token, or one that is not known.",
    403: "The role is missing, or the thing belongs to another.",
    404: "There is no such thing.",
    409: "The thing is in another state, or no bench can ever serve.",
    410: "It was there and is gone.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    416: "The range is outside.",
    422: "The request is not in its form, or a limit is out of bounds.",
    429: "This principal has too many of these open: close some, or try again later.",
    503: "Not now: try again.",
}
_HEADERS: Json = {
    "TEO-Position": {
        "description": "Position of the outcome on the journal, for `min_position`.",
        "schema": {"type": "string"},
    },
    "TEO-Command-Id": {"description": "Id of the command.", "schema": {"type": "string"}},
}


def document(operations: Sequence[Operation], *, version: str) -> Json:
    """Return the document."""
    models = _models(operations)
    refs, definitions = models_json_schema(models, ref_template=_REF)
    named: Refs = {
        (model, mode): schema
        for (model, mode), schema in refs.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    paths: dict[str, Json] = {}
    for operation in operations:
        path = _PATH_PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "teo: the Distributed Test Execution Orchestrator",
            "version": version,
            "description": (
                "Reserve benches, run tests on them, read what happened. Every change is a "
                "command whose outcome is an event on the journal; `TEO-Position` of an answer, "
                "given back as `min_position`, makes a read see it. Errors are "
                "`application/problem+json` (RFC 9457)."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in operations)],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": definitions.get("$defs", {}),
        },
    }


def _models(
    operations: Sequence[Operation],
) -> list[tuple[type[BaseModel], Literal["validation", "serialization"]]]:
    found: dict[tuple[type[BaseModel], Literal["validation", "serialization"]], None] = {
        (ProblemDetails, "serialization"): None,
        (Pending, "serialization"): None,
    }
    for operation in operations:
        if operation.body is not None:
            found[operation.body, "validation"] = None
        if operation.answer is not None:
            found[operation.answer, "serialization"] = None
    return list(found)


def _operation(operation: Operation, refs: Refs) -> Json:
    description = [operation.handler.__doc__ or ""]
    if operation.role is not None:
        description.append(f"Needs the role `{operation.role.name}`.")
    result: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": " ".join(description).strip(),
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation, refs),
    }
    if operation.role is None:
        result["security"] = []
    if operation.method in METHODS_THAT_CHANGE:
        result["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": (
                    "A repeat by the same caller to the same pool with the same key gives the "
                    "first answer, for 24 hours; a key sent to two pools is two commands."
                ),
                "schema": {"type": "string", "maxLength": 200},
            }
        )
    if operation.body is not None:
        result["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": {"application/json": {"schema": refs[operation.body, "validation"]}},
        }
    return result


def _path_parameters(operation: Operation) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            **({"description": "May hold slashes."} if takes_slashes else {}),
        }
        for name, takes_slashes in _PATH_PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[Json]:
    schema = TypeAdapter(operation.query).json_schema(ref_template=_REF)
    parameters = []
    for name, field in schema.get("properties", {}).items():
        kept = {key: value for key, value in field.items() if key not in ("title", "description")}
        parameter: Json = {"name": name, "in": "query", "schema": kept}
        if "description" in field:
            parameter["description"] = field["description"]
        parameters.append(parameter)
    return parameters


def _responses(operation: Operation, refs: Refs) -> Json:
    content: Json = {kind: {"schema": {"type": "string"}} for kind in operation.media}
    if operation.answer is not None:
        content["application/json"] = {"schema": refs[operation.answer, "serialization"]}
    summary = " ".join(operation.media.values()) or "Done."
    answer: Json = {"description": summary, "content": content}
    responses: Json = {str(operation.status): answer}
    problems = set(operation.problems)
    if operation.role is not None:
        problems |= {401, 403}
    if operation.body is not None:
        problems |= {400, 413, 415, 422}
    if operation.is_command:
        problems |= {422, 503}
        answer["headers"] = _HEADERS
        responses["202"] = {
            "description": "The outcome takes longer; look at `href`.",
            "content": {"application/json": {"schema": refs[Pending, "serialization"]}},
        }
    for status in sorted(problems):
        responses.setdefault(
            str(status),
            {
                "description": _MEANING[status],
                "content": {PROBLEM_JSON: {"schema": refs[ProblemDetails, "serialization"]}},
            },
        )
    return responses
