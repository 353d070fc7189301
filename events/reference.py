"""The references for people: messages from `schemas/`, codes from `events/codes.py`.

Never written by hand: `python -m events.reference` renews `docs/events.md` and `docs/codes.md`,
and tests compare.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from events import registry
from events.codes import CODES, LAB
from events.topics import Topics

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "events.md"
CODES_PAGE = REFERENCE.with_name("codes.md")

_TITLES: Mapping[str, tuple[str, str]] = {
    "commands": ("Commands", "What users ask. Key: pool. Written by the API."),
    "reports": ("Reports", "What workers say happened. Key: pool. Written by workers."),
    "events": (
        "Events",
        "The facts; the journal. Key: pool. Written by the scheduler, in transactions, alone.",
    ),
    "tasks": ("Tasks", "What workers are told. Key: worker id. Written by the scheduler."),
    "results": (
        "Results",
        "The contract for CI and analytics. Key: execution id. Written by the scheduler.",
    ),
    "logs": ("Logs", "Output of tests. Key: execution id. Written by workers."),
    "dlq": ("Set aside", "Inputs that nobody could take. Key: their own."),
    "snapshots": (
        "Snapshots",
        "The scheduler's state now and then, for recovery alone. Written by the scheduler.",
    ),
}

_HEAD = """\
# Messages

<!-- Made by `python -m events.reference` from schemas/*.avsc. Do not edit. -->

Every record is Avro in the Confluent wire format: a zero byte, the schema id as four bytes (big
endian), the body. Ids and frozen versions are in
[`schemas/published/`](../schemas/published/ids.json); a version that is there is never changed, and
every version decodes for ever. Times are microseconds since 1970, UTC. `?` marks a field that can
be null.

The first field of commands, reports, events and tasks is `meta`.
"""


def reference() -> str:
    """Return the whole text of `docs/events.md`."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    for family in registry.FAMILIES:
        title, about = _TITLES[family]
        topic = getattr(Topics(), family)
        names = [name for name in registry.message_names() if registry.family_of(name) == family]
        yield f"- [{title}](#{_anchor(title)}), `{topic}`: " + ", ".join(
            f"[{name}](#{_anchor(name)})" for name in names
        )
    shared = sorted(_shared())
    parts = ", ".join(f"[{name}](#{_anchor(name)})" for name in shared)
    yield f"- [Parts](#parts): {parts}\n"
    for family in registry.FAMILIES:
        title, about = _TITLES[family]
        yield f"## {title}\n\n`{getattr(Topics(), family)}`. {about}\n"
        for name in registry.message_names():
            if registry.family_of(name) == family:
                yield from _message(name)
    yield "## Parts\n\nRecords that messages of several families are made of.\n"
    for name in shared:
        yield from _record(name, registry.sources()[name], note="")


def _shared() -> set[str]:
    return set(registry.sources()) - set(registry.message_names())


def _message(name: str) -> Iterator[str]:
    ids = [
        f"v{version.version} is id {version.schema_id}"
        for version in registry.published()
        if version.name == name
    ]
    yield from _record(name, registry.sources()[name], note=f" ({', '.join(ids)})")


def _record(name: str, schema: registry.Schema, *, note: str) -> Iterator[str]:
    yield f"### {name}\n\n{schema['doc']}{note}\n"
    yield "| field | type | |\n|---|---|---|"
    for field in schema["fields"]:
        about = str(field["doc"]).replace("|", "\\|")
        if field.get("default") is not None:
            about += f" Default: `{json.dumps(field['default'])}`."
        yield f"| `{field['name']}` | {_type(field['type'])} | {about} |"
    yield ""


def _type(schema: Any) -> str:
    """Return how a type is shown, with a link where it is a part."""
    if isinstance(schema, list):
        (inner,) = (branch for branch in schema if branch != "null")
        return f"{_type(inner)}?"
    if isinstance(schema, str):
        part = schema.removeprefix(f"{registry.NAMESPACE}.")
        return f"[{part}](#{_anchor(part)})" if part != schema else part
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "map":
        return f"map of {_type(schema['values'])}"
    return "time" if schema.get("logicalType") == "timestamp-micros" else str(schema["type"])


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


_CODES_HEAD = """\
# Codes

<!-- Made by `python -m events.reference` from events/codes.py. Do not edit. -->

The stable word with which an attempt or an execution ends, whose fault that is, and whether another
attempt is made: `error` uses up one of `--retries`, `failure` one of `--retries-on-failure`, `free`
none, because nothing was begun. Only faults of the lab ({lab}) are tried again unasked or leave a
dead letter; only those of a bench count against it, only those of a worker against that worker.
An adapter may have words of its own; it says whose fault each is.

| code | whose | tried again | means | next |
|---|---|---|---|---|"""


def codes_page() -> str:
    """Return the whole text of `docs/codes.md`."""
    rows = [
        f"| `{name}` | {code.fault or '-'} | {code.again} | {code.meaning} | {code.next_step} |"
        for name, code in CODES.items()
    ]
    return "\n".join([_CODES_HEAD.format(lab=", ".join(LAB)), *rows, ""])


if __name__ == "__main__":
    REFERENCE.write_text(reference())
    CODES_PAGE.write_text(codes_page())
    sys.stdout.write(f"wrote {REFERENCE} and {CODES_PAGE}\n")
