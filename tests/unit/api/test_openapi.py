"""The document is generated, whole and consistent."""

import re
from typing import Any

import pytest

from api.docs_view import groups
from api.openapi import document
from api.operations import METHODS_THAT_CHANGE
from api.routes import operations
from api.sse import MEDIA_TYPE

DOCUMENT = document(operations(), version="1.2.3")


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return found + [ref for value in node.values() for ref in refs(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in refs(value)]
    return []


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for ref in refs(DOCUMENT):
        assert ref.removeprefix("#/components/schemas/") in schemas, ref


def test_every_operation_is_there_once_with_its_path_parameters() -> None:
    names = [operation.name for operation in operations()]
    assert len(set(names)) == len(names)
    for operation in operations():
        path = operation.path.replace(":name}", "}")
        described = DOCUMENT["paths"][path][operation.method.lower()]
        assert described["operationId"] == operation.name
        in_path = {each["name"] for each in described["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))


@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.name)
def test_changes_take_a_key_and_name_their_problems(operation: Any) -> None:
    path = operation.path.replace(":name}", "}")
    described = DOCUMENT["paths"][path][operation.method.lower()]
    headers = {each["name"] for each in described["parameters"] if each["in"] == "header"}
    assert ("Idempotency-Key" in headers) is (operation.method in METHODS_THAT_CHANGE)
    assert (operation.role is None) is (described.get("security") == [])
    if operation.is_command:
        assert {"202", "401", "403", "503"} <= described["responses"].keys()


def test_what_is_kept_open_says_that_there_may_be_too_many() -> None:
    kept_open = [
        each
        for each in operations()
        if MEDIA_TYPE in each.media or (each.query and "wait_s" in each.query.model_fields)
    ]
    assert {"streamEvents", "getExecution"} <= {each.name for each in kept_open}
    for operation in kept_open:
        described = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert {"429", "503"} <= described["responses"].keys(), operation.name


def test_the_page_shows_every_operation() -> None:
    shown = [view.id for _, views in groups(DOCUMENT) for view in views]
    assert sorted(shown) == sorted(operation.name for operation in operations())
    submit = next(v for _, views in groups(DOCUMENT) for v in views if v.id == "submitExecution")
    assert {"run", "command", "timeout_s", "selector"} <= {row.name for row in submit.body}
    assert '"command": ["…"]' in submit.example
