"""The Avro contract: assembles `schemas/`, knows the published versions and their ids.

Never talks to a network. `python -m events.registry` publishes what changed: a schema that
differs from its newest published version becomes a new version with the next id.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

NAMESPACE = "teo"
FAMILIES = ("commands", "reports", "events", "tasks", "results", "logs", "dlq", "snapshots")

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One frozen version of one message type, self-contained."""

    schema_id: int
    name: str
    version: int
    schema: Schema


def schemas_dir() -> Path:
    """Return the folder of the contract, as installed."""
    return Path(str(resources.files("schemas")))


@cache
def sources() -> Mapping[str, Schema]:
    """Return every hand-written schema by name, shared parts included, unexpanded."""
    found: dict[str, Schema] = {}
    for family in ("shared", *FAMILIES):
        for path in sorted((schemas_dir() / family).glob("*.avsc")):
            schema = json.loads(path.read_text())
            assert schema["name"] == path.stem, f"{path} holds {schema['name']}"
            found[path.stem] = schema
    return found


def family_of(name: str) -> str:
    """Return the family (folder) of a message type."""
    for family in FAMILIES:
        if (schemas_dir() / family / f"{name}.avsc").exists():
            return family
    raise KeyError(name)


def message_names() -> tuple[str, ...]:
    """Return the names of all message types, sorted by family, then name."""
    return tuple(
        path.stem for family in FAMILIES for path in sorted((schemas_dir() / family).glob("*.avsc"))
    )


def assemble(name: str) -> Schema:
    """Return the schema of `name` with every shared part written out where it is first used."""
    seen: set[str] = set()

    def expand(node: Any) -> Any:
        if isinstance(node, str) and node.startswith(f"{NAMESPACE}."):
            part = node.removeprefix(f"{NAMESPACE}.")
            if part in seen:
                return node
            seen.add(part)
            return expand(sources()[part])
        if isinstance(node, list):
            return [expand(item) for item in node]
        if isinstance(node, dict):
            return {
                key: expand(value) if key in ("type", "items", "values", "fields") else value
                for key, value in node.items()
            }
        return node

    expanded = expand(f"{NAMESPACE}.{name}")
    assert isinstance(expanded, dict)
    return expanded


@cache
def published() -> tuple[Published, ...]:
    """Return every published version of every message type, by id."""
    folder = schemas_dir() / "published"
    index = json.loads((folder / "ids.json").read_text())
    return tuple(
        Published(
            schema_id=entry["id"],
            name=entry["name"],
            version=entry["version"],
            schema=json.loads((folder / f"{entry['name']}.v{entry['version']}.avsc").read_text()),
        )
        for entry in index
    )


@cache
def newest() -> Mapping[str, Published]:
    """Return the newest published version of each message type."""
    return {version.name: version for version in published()}


def publish(folder: Path) -> Iterator[Published]:
    """Write each changed schema as a new version under `folder`; yield what was published."""
    index_path = folder / "ids.json"
    index = json.loads(index_path.read_text()) if index_path.exists() else []
    current = {entry["name"]: entry for entry in index}
    next_id = max((entry["id"] for entry in index), default=0) + 1
    for name in message_names():
        schema = assemble(name)
        entry = current.get(name)
        if entry is not None:
            frozen = folder / f"{name}.v{entry['version']}.avsc"
            if json.loads(frozen.read_text()) == schema:
                continue
        version = entry["version"] + 1 if entry is not None else 1
        (folder / f"{name}.v{version}.avsc").write_text(json.dumps(schema, indent=1) + "\n")
        index.append({"id": next_id, "name": name, "version": version})
        yield Published(schema_id=next_id, name=name, version=version, schema=schema)
        next_id += 1
    rows = ",\n".join(f"  {json.dumps(entry)}" for entry in index)
    index_path.write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    target = schemas_dir() / "published"
    target.mkdir(exist_ok=True)
    for fresh in publish(target):
        sys.stdout.write(f"published {fresh.name} v{fresh.version} as id {fresh.schema_id}\n")
