"""The OpenAPI document, turned into what the documentation page shows. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
DEPTH_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One parameter or field."""

    name: str
    place: str
    type: str
    is_required: bool
    default: str
    description: str
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """One operation as the page shows it."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[FieldRow]
    body: Sequence[FieldRow]
    answers: Sequence[tuple[str, str, str]]
    """Status, meaning, media types."""
    fields: Sequence[FieldRow]
    """Of the answer."""
    example: str


def groups(document: Json) -> Sequence[tuple[str, Sequence[OperationView]]]:
    """Return the operations by tag, in the order of the tags."""
    schemas: Json = document["components"]["schemas"]
    found: dict[str, list[OperationView]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            view = _operation(path, method, operation, schemas)
            found[operation["tags"][0]].append(view)
    return list(found.items())


def _operation(path: str, method: str, operation: Json, schemas: Json) -> OperationView:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    good = next(answer for status, answer in operation["responses"].items() if status[0] == "2")
    answer = good.get("content", {}).get("application/json")
    return OperationView(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        parameters=[_parameter(each) for each in operation["parameters"]],
        body=[] if body is None else _fields(body["schema"], schemas, "body"),
        answers=[
            (status, each["description"], ", ".join(each.get("content", {})))
            for status, each in operation["responses"].items()
        ],
        fields=[] if answer is None else _fields(answer["schema"], schemas, "answer"),
        example=_example(path, method.upper(), operation, schemas),
    )


def _parameter(parameter: Json) -> FieldRow:
    schema = parameter["schema"]
    return FieldRow(
        name=parameter["name"],
        place=parameter["in"],
        type=_type(schema),
        is_required=parameter.get("required", False),
        default=_default(schema),
        description=parameter.get("description", ""),
    )


def _fields(schema: Json, schemas: Json, place: str, depth: int = 0) -> list[FieldRow]:
    resolved = _resolve(schema, schemas)
    rows: list[FieldRow] = []
    for name, field in resolved.get("properties", {}).items():
        rows.append(
            FieldRow(
                name=name,
                place=place,
                type=_type(field),
                is_required=name in resolved.get("required", []),
                default=_default(field),
                description=field.get("description", ""),
                depth=depth,
            )
        )
        if depth < DEPTH_MAX:
            inner = field.get("items", field)
            if _resolve(inner, schemas).get("properties"):
                rows += _fields(inner, schemas, place, depth + 1)
    return rows


def _resolve(schema: Json, schemas: Json) -> Json:
    if "$ref" in schema:
        found: Json = schemas[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _default(schema: Json) -> str:
    value = schema.get("default")
    return "" if value in (None, "", []) else str(value)


def _example(path: str, method: str, operation: Json, schemas: Json) -> str:
    """Return a call of curl with all that is required."""
    parts = ["curl"]
    if method != "GET":
        parts.append(f"-X {method}")
    if operation.get("security") != []:
        parts.append('-H "Authorization: Bearer $TEO_TOKEN"')
    if "text/event-stream" in next(iter(operation["responses"].values())).get("content", {}):
        parts += ["-N", "-H 'Accept: text/event-stream'"]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"--json '{_sample_text(schema, schemas)}'")
    parts.append(f'"$TEO_SERVER{path}"')
    return " \\\n  ".join(parts)


def _sample_text(schema: Json, schemas: Json) -> str:

    return json.dumps(_sample(schema, schemas), ensure_ascii=False)


def _sample(schema: Json, schemas: Json) -> Any:
    """Return a value with all required fields."""
    resolved = _resolve(schema, schemas)
    kind = resolved.get("type")
    if kind == "object":
        required = resolved.get("required", [])
        return {name: _sample(resolved["properties"][name], schemas) for name in required}
    if kind == "array":
        return [_sample(resolved.get("items", {}), schemas)]
    return {"string": "…", "number": 60, "integer": 1, "boolean": True}.get(str(kind), "…")
