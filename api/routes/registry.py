"""The schemas, on the read-only paths of a Confluent registry, so that Kafka tools can read."""

from collections.abc import Sequence

import orjson
from starlette.responses import Response

from api.call import Call
from api.models.answers import RegisteredSchema
from api.operations import Handler, Operation
from events.registry import NAMESPACE, Published, published

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
"""Error codes of the registry; its clients look at them, not at problems."""


def _answer(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type=MEDIA_TYPE)


def _error(code: int, message: str) -> Response:
    return _answer({"error_code": code, "message": message}, 404)


def _subject(version: Published) -> str:
    return f"{NAMESPACE}.{version.name}"


def _text(version: Published) -> str:
    return orjson.dumps(version.schema).decode()


def _of_subject(subject: str) -> Sequence[Published]:
    return [version for version in published() if _subject(version) == subject]


async def get_schema(call: Call) -> Response:
    """The schema of an id, as the first five bytes of a record name it."""
    wanted = call.path("id")
    for version in published():
        if str(version.schema_id) == wanted:
            return _answer({"schemaType": "AVRO", "schema": _text(version)})
    return _error(_NO_SCHEMA, f"Schema {wanted} not found")


async def list_subjects(call: Call) -> Response:
    """The names of all record types."""
    del call
    return _answer(sorted({_subject(version) for version in published()}))


async def list_versions(call: Call) -> Response:
    """The versions of a record type."""
    found = _of_subject(call.path("subject"))
    if not found:
        return _error(_NO_SUBJECT, f"Subject '{call.path('subject')}' not found.")
    return _answer([version.version for version in found])


async def get_version(call: Call) -> Response:
    """One version of a record type, or `latest`."""
    subject, wanted = call.path("subject"), call.path("version")
    found = _of_subject(subject)
    if not found:
        return _error(_NO_SUBJECT, f"Subject '{subject}' not found.")
    newest = max(each.version for each in found)
    number = str(newest) if wanted in ("latest", "-1") else wanted
    for version in found:
        if str(version.version) == number:
            answer = RegisteredSchema(
                subject=subject,
                version=version.version,
                id=version.schema_id,
                text=_text(version),
            )
            return _answer(answer.model_dump(by_alias=True))
    return _error(_NO_VERSION, f"Version {wanted} not found.")


def _operation(path: str, name: str, summary: str, handler: Handler) -> Operation:
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        tag="Schema registry",
        media={MEDIA_TYPE: "As the Confluent Schema Registry answers."},
    )


OPERATIONS = (
    _operation("/schemas/ids/{id}", "getSchema", "Get the schema of an id", get_schema),
    _operation("/subjects", "listSubjects", "List record types", list_subjects),
    _operation(
        "/subjects/{subject}/versions", "listVersions", "List versions of a type", list_versions
    ),
    _operation(
        "/subjects/{subject}/versions/{version}",
        "getSchemaVersion",
        "Get a version of a type",
        get_version,
    ),
)
