"""`teo artifacts`: lists and downloads what attempts kept; never writes outside the folder."""

import hashlib
from io import BufferedWriter
from pathlib import Path, PurePosixPath
from typing import Annotated

import httpx
import typer

from cli import arguments
from cli.client import Client, Json, segment
from cli.patience import Patience
from cli.problems import BadUsage, Problem, Unreachable, from_answer, unavailable
from cli.render import Column, field, show_list
from cli.session import Session
from events import durable

_UNITS = ("B", "kB", "MB", "GB", "TB")

_COLUMNS: list[Column] = [
    ("ATTEMPT", field("attempt")),
    ("PATH", field("path")),
    ("KIND", field("kind")),
    ("SIZE", lambda item: size(item.get("size_bytes"))),
    ("SHA256", lambda item: str(item.get("sha256") or "-")[:12]),
]


def artifacts(
    session: Session,
    execution: arguments.ExecutionId,
    download: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download into this folder.")
    ] = None,
    attempt: arguments.Attempt = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Not only the last attempt's.")
    ] = False,
) -> None:
    """List what an execution kept (of its last attempt, if none is named), or download it."""
    output = session.output()
    execution_id = arguments.execution_id(execution)
    if attempt is not None and all_attempts:
        raise BadUsage("--attempt and --all-attempts exclude each other")
    path = f"/v1/executions/{segment(execution_id)}/artifacts"
    with session.client() as client:
        found: list[Json] = client.pages(path, {"attempt": attempt}, has_limit=False)
        if found and attempt is None and not all_attempts:
            last = max(item["attempt"] for item in found)
            found = [item for item in found if item["attempt"] == last]
        if download is not None:
            for item in found:
                folder = f"attempt-{item['attempt']}" if all_attempts else ""
                target = _target(download, folder, str(item["path"]))
                _download(client, path, item, target, session=session)
                session.screen.note(f"{target}  {size(item['size_bytes'])}")
    empty = f"{execution_id} kept nothing"
    if download is None or output != "table":
        show_list(session.screen, found, _COLUMNS, output=output, empty=empty, name="path")
    elif not found:
        session.screen.note(empty)


def size(size_bytes: object) -> str:
    """Return a size with the unit that fits."""
    if not isinstance(size_bytes, int):
        return "-"
    amount = float(size_bytes)
    for unit in _UNITS[:-1]:
        if amount < 1_000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} {_UNITS[-1]}"


def _target(folder: Path, attempt: str, name: str) -> Path:
    """Return where an artifact goes. Raises `Problem` if its name or a link leads out of there."""
    inside = PurePosixPath(name)
    if not inside.parts or inside.is_absolute() or ".." in inside.parts or "\0" in name:
        raise Problem(f"artifact {name!r} would be written outside {folder}", exit_code=3)
    target = folder / attempt / Path(*inside.parts)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise Problem(f"{target} leads outside {folder}: a link is in the way", exit_code=3)
    return target


def _download(client: Client, path: str, item: Json, target: Path, *, session: Session) -> None:
    """Fetch one artifact into a file of another name, check it, then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    names = "/".join(segment(name) for name in PurePosixPath(str(item["path"])).parts)
    url = f"{path}/{item['attempt']}/{names}"
    patience = Patience(client.patience_s, note=session.screen.note)
    try:
        with part.open("wb") as file:
            while True:
                try:
                    _fetch(client, url, file, etag=f'"{item["sha256"]}"')
                    break
                except Unreachable as error:
                    patience.wait(error)
        _check(part, item)
        durable.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _fetch(client: Client, url: str, file: BufferedWriter, *, etag: str) -> None:
    offset = file.tell()
    try:
        with client.download(url, offset_bytes=offset, etag=etag) as answer:
            if answer.status_code not in (200, 206):
                answer.read()
                refused = from_answer(answer.status_code, answer.content, server=client.server)
                if answer.status_code >= 500:
                    raise unavailable(refused, server=client.server, is_write=False)
                raise refused
            if answer.status_code == 200 and offset:
                file.seek(0)
                file.truncate()
            file.writelines(answer.iter_raw())  # As it comes: what broke off is kept.
    except httpx.TransportError as error:
        raise Unreachable(client.server, str(error) or type(error).__name__) from error


def _check(part: Path, item: Json) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != item["sha256"]:
        raise Problem(
            f"artifact {item['path']!r} arrived with sha256 {found}, {item['sha256']} was kept",
            next_step="download it again; if that does not help, its store is damaged",
            exit_code=3,
        )
