"""`teo artifacts`: lists and downloads what attempts kept; one that fails keeps back no other."""

import hashlib
from collections import Counter
from io import BufferedRandom
from pathlib import Path
from typing import Annotated

import httpx
import typer

from cli import arguments
from cli.client import Client, Json, segment
from cli.downloads import DownloadFolder
from cli.patience import Patience
from cli.problems import BadUsage, Problem, Unreachable, from_answer, unavailable
from cli.render import Column, field, plain, show_list
from cli.session import Session

KINDS = ("artifact", "junit", "log")
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
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Only artifact, junit or log.")
    ] = None,
    attempt: arguments.Attempt = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="Not only the last attempt's.")
    ] = False,
) -> None:
    """List what an execution kept (of its last attempt, if none is named), or download it."""
    output = session.output()
    execution_id = arguments.execution_id(execution)
    if kind not in (None, *KINDS):
        raise BadUsage(f"--kind {kind}", next_step=f"use one of {', '.join(KINDS)}")
    if attempt is not None and all_attempts:
        raise BadUsage("--attempt and --all-attempts exclude each other")
    path = f"/v1/executions/{segment(execution_id)}/artifacts"
    with session.client() as client:
        found: list[Json] = client.pages(path, {"attempt": attempt}, has_limit=False)
        if found and attempt is None and not all_attempts:
            last = max(item["attempt"] for item in found)
            found = [item for item in found if item["attempt"] == last]
        if kind is not None:
            found = [item for item in found if item["kind"] == kind]
        if download is not None:
            _download(client, found, download, session=session, with_attempts=all_attempts)
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


def _download(
    client: Client, found: list[Json], into: Path, *, session: Session, with_attempts: bool
) -> None:
    """Fetch artifacts into a folder; one that fails keeps back no other. Raises `Problem`."""
    failed: list[Problem] = []
    twice = {key for key, count in Counter(map(_place, found)).items() if count > 1}
    with DownloadFolder(into) as folder:
        for item in found:
            # Two of one path are of two kinds: the test's own keeps the name.
            is_second = _place(item) in twice and item.get("kind") != "artifact"
            name = f"{item['path']}~{item['kind']}" if is_second else str(item["path"])
            name = f"attempt-{item['attempt']}/{name}" if with_attempts else name
            try:
                _fetch_into(client, item, name, folder, session=session)
            except Unreachable:
                raise
            except Problem as problem:
                session.screen.complain(f"teo: {problem}")
                failed.append(problem)
                continue
            session.screen.note(f"{into / plain(name)}  {size(item['size_bytes'])}")
    if failed:
        raise Problem(
            f"{len(failed)} of {len(found)} artifacts were not downloaded",
            next_step="see above why; the others are there",
            exit_code=failed[0].exit_code,
        )


def _place(item: Json) -> tuple[int, str]:
    return int(item["attempt"]), str(item["path"])


def _fetch_into(
    client: Client, item: Json, name: str, folder: DownloadFolder, *, session: Session
) -> None:
    """Fetch one artifact into a file without a name, check it, then give it its name."""
    patience = Patience(client.patience_s, note=session.screen.note)
    with folder.file(name) as file:
        while True:
            try:
                _fetch(client, str(item["href"]), file, etag=f'"{item["sha256"]}"')
                break
            except Unreachable as error:
                patience.wait(error)
        _check(file, item)


def _fetch(client: Client, url: str, file: BufferedRandom, *, etag: str) -> None:
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


def _check(file: BufferedRandom, item: Json) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != item["sha256"]:
        raise Problem(
            f"artifact {plain(item['path'])!r} arrived with sha256 {found}, {item['sha256']} was "
            "kept",
            next_step="download it again; if that does not help, its store is damaged",
            exit_code=3,
        )
