"""The contract holds: dataclasses mirror `schemas/`, published versions stay as they were.

After a change that is meant: `make schemas`, then
`UPDATE_GOLDEN=1 .venv/bin/pytest tests/contract/test_schemas.py` renews `tests/golden/` (bytes of
the newest versions, hashes of the published files) and `docs/events.md`. Read the difference in
review: a line of `published.sha256` or bytes of a version that was released must never change,
there may only be new ones.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from events import codec, commands, facts, reference, registry, reports, shared, tasks
from tests.contract.compatibility import breaks
from tests.golden import samples

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
HASHES = GOLDEN / "published.sha256"
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
RENEW = "UPDATE_GOLDEN=1 .venv/bin/pytest tests/contract/test_schemas.py"

PRIMITIVES = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}
UNIONS = {
    "commands": commands.Command,
    "reports": reports.Report,
    "events": facts.Event,
    "tasks": tasks.Task,
}


@pytest.fixture(scope="session", autouse=True)
def renewed() -> None:
    """Renew what is derived from the contract, when asked to."""
    if not UPDATE:
        return
    HASHES.write_text("".join(_hash_lines()))
    for version in registry.newest().values():
        _golden(version).write_text(json.dumps(_golden_of(version), indent=1) + "\n")
    reference.REFERENCE.write_text(reference.reference())


# --- the dataclasses mirror the schemas


def dataclass_of(name: str) -> type:
    """Return the dataclass that mirrors the schema `name`."""
    if name in registry.message_names():
        return codec._class_of(name)[0]
    return getattr(shared, name)


def avro_type(hint: Any) -> Any:
    """Return the Avro type that mirrors a field of type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return ["null", avro_type(inner)]
    if origin is tuple:
        assert arguments[1:] == (...,), f"{hint}: a list is tuple[X, ...]"
        return {"type": "array", "items": avro_type(arguments[0])}
    if origin is Mapping:
        assert arguments[0] is str, f"{hint}: Avro's maps have text as keys"
        return {"type": "map", "values": avro_type(arguments[1])}
    if hint is datetime:
        return {"type": "long", "logicalType": "timestamp-micros"}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return f"{registry.NAMESPACE}.{hint.__name__}"
    return PRIMITIVES[hint]


def mirrored(field: "Field[Any]", hint: Any) -> dict[str, Any]:
    """Return what the schema must say of a field of a dataclass, but for its doc."""
    assert field.default_factory is MISSING, f"{field.name}: defaults are values"
    default = {} if field.default is MISSING else {"default": plain_default(field.default)}
    return {"name": field.name, "type": avro_type(hint), **default}


def plain_default(value: Any) -> Any:
    """Return a default as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", sorted(registry.sources()))
def test_dataclass_mirrors_its_schema(name):
    schema, cls = registry.sources()[name], dataclass_of(name)
    meta = codec._class_of(name)[1] if name in registry.message_names() else None
    hints = get_type_hints(cls)
    first = [{"name": "meta", "type": f"teo.{meta.__name__}"}] if meta else []
    expected = first + [mirrored(field, hints[field.name]) for field in fields(cls)]
    written = [
        {key: value for key, value in field.items() if key != "doc"} for field in schema["fields"]
    ]
    assert written == expected
    assert cls.__doc__ == schema["doc"]


@pytest.mark.parametrize("name", sorted(registry.sources()))
def test_schema_says_what_it_means(name):
    schema = registry.sources()[name]
    assert (schema["type"], schema["namespace"]) == ("record", registry.NAMESPACE)
    for node in (schema, *schema["fields"]):
        assert node.get("doc", "").endswith("."), f"{name}: {node['name']} has no doc sentence"
    for field in schema["fields"]:
        is_optional = isinstance(field["type"], list)
        if is_optional:
            assert field["type"][0] == "null", f"{name}.{field['name']}: null comes first"
            assert field["default"] is None, f"{name}.{field['name']}: its default is null"


@pytest.mark.parametrize("family", UNIONS)
def test_union_of_a_family_is_its_folder(family):
    named = {cls.__name__ for cls in get_args(UNIONS[family])}
    assert named == {
        name for name in registry.message_names() if registry.family_of(name) == family
    }


def test_a_name_is_used_once():
    names = [path.stem for path in registry.schemas_dir().glob("*/*.avsc") if "." not in path.stem]
    assert len(names) == len(set(names))


# --- what is published stays


def test_ids_are_dense_and_versions_too():
    published = registry.published()
    assert [version.schema_id for version in published] == list(range(1, len(published) + 1))
    for name in registry.message_names():
        versions = [version.version for version in published if version.name == name]
        assert versions == list(range(1, len(versions) + 1)), name


def test_every_published_file_has_an_id():
    folder = registry.schemas_dir() / "published"
    indexed = {f"{version.name}.v{version.version}.avsc" for version in registry.published()}
    assert {path.name for path in folder.glob("*.avsc")} == indexed


@pytest.mark.parametrize("name", registry.message_names())
def test_newest_published_version_is_the_schema(name):
    newest = registry.newest().get(name)
    assert newest is not None, f"{name} is not published: run `make schemas`"
    assert newest.schema == registry.assemble(name), f"{name} has changed: run `make schemas`"


def _hash_lines() -> Iterator[str]:
    """Yield one line for each published file, as `sha256sum --check` reads them."""
    for path in sorted((registry.schemas_dir() / "published").glob("*.avsc")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield f"{digest}  schemas/published/{path.name}\n"


def test_published_files_are_frozen():
    frozen, there = HASHES.read_text().splitlines(), "".join(_hash_lines()).splitlines()
    changed = [line.split()[1] for line in frozen if line not in there]
    assert not changed, f"published and changed since: {changed}; publish a new version instead"
    assert there == frozen, f"not frozen yet: run `{RENEW}`"


def test_publishing_again_changes_nothing(tmp_path):
    folder = shutil.copytree(registry.schemas_dir() / "published", tmp_path / "published")
    before = (folder / "ids.json").read_bytes()
    assert list(registry.publish(folder)) == []
    assert (folder / "ids.json").read_bytes() == before


def test_a_changed_schema_becomes_the_next_version_with_the_next_id(tmp_path):
    folder = shutil.copytree(registry.schemas_dir() / "published", tmp_path / "published")
    newest = registry.newest()["WorkerLost"]
    file = folder / f"WorkerLost.v{newest.version}.avsc"
    file.write_text(json.dumps({**newest.schema, "doc": "Another one."}))
    before = file.read_bytes()
    (fresh,) = registry.publish(folder)
    assert (fresh.name, fresh.version) == ("WorkerLost", newest.version + 1)
    assert fresh.schema_id == len(registry.published()) + 1
    assert file.read_bytes() == before
    index = json.loads((folder / "ids.json").read_text())
    assert index[-1] == {
        "id": fresh.schema_id,
        "name": "WorkerLost",
        "version": newest.version + 1,
    }


# --- every version reads every other (FULL_TRANSITIVE)


@pytest.mark.parametrize("name", registry.message_names())
def test_every_version_reads_every_other(name):
    versions = [version for version in registry.published() if version.name == name]
    for writer in versions:
        for reader in versions:
            found = breaks(writer.schema, reader.schema)
            assert not found, f"v{reader.version} cannot read v{writer.version}: {found}"


# --- golden bytes


def _golden(version: registry.Published) -> Path:
    return GOLDEN / f"{version.name}.v{version.version}.json"


def _golden_of(version: registry.Published) -> dict[str, Any]:
    made = {kind: samples.message(version.name, full=kind == "full") for kind in ("full", "bare")}
    return {
        "id": version.schema_id,
        "samples": {
            kind: {"wire": codec.encode(message).hex(), "value": samples.plain(message)}
            for kind, message in made.items()
        },
    }


@pytest.mark.parametrize("version", registry.published(), ids=lambda v: f"{v.name}.v{v.version}")
def test_golden_bytes_decode_for_ever(version):
    golden = json.loads(_golden(version).read_text())
    assert golden["id"] == version.schema_id
    for sample in golden["samples"].values():
        decoded = samples.plain(codec.decode(bytes.fromhex(sample["wire"])))
        assert _reduced(decoded, sample["value"]) == sample["value"]


@pytest.mark.parametrize("name", registry.message_names())
def test_newest_version_encodes_to_its_golden_bytes(name):
    version = registry.newest()[name]
    golden = json.loads(_golden(version).read_text())
    assert _golden_of(version) == golden, f"if this is meant: {RENEW}"
    for sample in golden["samples"].values():
        wire = bytes.fromhex(sample["wire"])
        decoded = codec.decode(wire)
        assert samples.plain(decoded) == sample["value"]
        assert codec.encode(decoded) == wire


def test_every_golden_file_belongs_to_a_published_version():
    expected = {_golden(version).name for version in registry.published()}
    assert {path.name for path in GOLDEN.glob("*.json")} == expected


def _reduced(value: Any, like: Any) -> Any:
    """Return `value` without the fields that `like` has not: newer versions may have more."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: _reduced(value[key], like[key]) for key in like if key in value}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [_reduced(item, other) for item, other in zip(value, like, strict=True)]
    return value


# --- the reference for people


def test_reference_is_what_the_schemas_say():
    there = reference.REFERENCE.read_text()
    assert there == reference.reference(), "run `.venv/bin/python -m events.reference`"
