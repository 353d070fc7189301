"""Artifacts: what was kept of an attempt, and its bytes.

A path is looked up among the names on the journal, so no path leads anywhere else.
"""

import re
from collections.abc import AsyncGenerator
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from api.call import Call
from api.encoding import json_response
from api.models.answers import Artifact, Items
from api.models.queries import ArtifactQuery, AttemptQuery
from api.operations import Operation
from api.problems import Problem
from api.routes.executions import attempt_of, execution_of
from processors.artifacts.store import (
    ArtifactDamaged,
    ArtifactMissing,
    ArtifactRefused,
    ArtifactStore,
    ArtifactStoreUnavailable,
)
from projections.rows import ArtifactRow

OFFSET_DIGITS_MAX = 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def list_artifacts(call: Call) -> Response:
    """What was kept of one attempt, or of all."""
    row = await execution_of(call)
    attempt = attempt_of(row, call.query_as(AttemptQuery).attempt)
    found = await call.service.reads.artifacts(row.id, attempt)
    items = [answer_of(row.id, each) for each in found]
    return json_response(Items[Artifact](items=items))


def answer_of(execution_id: str, row: ArtifactRow) -> Artifact:
    """Return an artifact with the address of its bytes."""
    folder = f"/v1/executions/{quote(execution_id)}/artifacts/{row.attempt}"
    return Artifact(
        attempt=row.attempt,
        path=row.path,
        kind=row.kind,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        href=f"{folder}/{quote(row.path)}?kind={quote(row.kind)}",
    )


async def get_artifact(call: Call) -> Response:
    """The bytes, or a range of them."""
    artifact = await _artifact(call)
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": _disposition(artifact.path),
        # What a test wrote is never shown as a page of this server.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    request = call.request
    if etag in request.headers.get("if-none-match", "") or (
        request.headers.get("if-none-match", "").strip() == "*"
    ):
        return Response(status_code=304, headers=headers)
    size = artifact.size_bytes
    wanted = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    start, stop = _span(wanted, size, call.path("path")) or (0, size)
    status = 200
    if wanted is not None and _RANGE.fullmatch(wanted):
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    media_type = (
        "text/plain; charset=utf-8"
        if artifact.kind == "log"
        else ("application/xml" if artifact.kind == "junit" else "application/octet-stream")
    )
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    body = await _opened(call.service.deps.artifacts, artifact, start, stop)
    return StreamingResponse(body, status_code=status, headers=headers, media_type=media_type)


async def _artifact(call: Call) -> ArtifactRow:
    row = await execution_of(call)
    number, path = call.path("attempt"), call.path("path")
    kind = call.query_as(ArtifactQuery).kind
    if number.isdecimal() and len(number) < 10:
        for each in await call.service.reads.artifacts(row.id, int(number)):
            if each.path == path and kind in (None, each.kind):
                return each
    detail = (
        f"execution {row.id} has no artifact {path} of attempt {number}; "
        f"GET /v1/executions/{row.id}/artifacts lists what there is"
    )
    raise Problem(404, "no_such_artifact", detail)


def _span(wanted: str | None, size: int, path: str) -> tuple[int, int] | None:
    """Return (start, stop) of a single range; None: the whole. Raises the 416 it deserves.

    Several ranges, and units that are not bytes, are answered with the whole: HTTP allows it.
    """
    found = None if wanted is None else _RANGE.fullmatch(wanted)
    if found is None:
        return None
    # Python reads only so many digits; with as many as these it is behind the end of any file.
    first, last = found[1][:OFFSET_DIGITS_MAX], found[2][:OFFSET_DIGITS_MAX]
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - int(last or "0")), size
    if start >= stop:
        detail = f"{path} has {size} bytes, so {wanted} is outside; ask for bytes=0-{size - 1}"
        headers = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, "range_not_satisfiable", detail, headers=headers)
    return start, stop


def _disposition(path: str) -> str:
    name = path.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def _opened(
    store: ArtifactStore, artifact: ArtifactRow, start: int, stop: int
) -> AsyncGenerator[bytes, None]:
    """Return the bytes; the first of them are read here, so that a lost file is a problem."""
    if start == stop:
        return _nothing()
    chunks = store.open(artifact.uri, start, stop, sha256=artifact.sha256)
    try:
        first = await anext(chunks)
    except ArtifactDamaged as error:
        detail = (
            f"{artifact.path} was changed after it was kept, so it is not given out ({error}); "
            "`teo fsck --artifacts DIR` on the machine of the store says what else was"
        )
        raise Problem(409, "artifact_damaged", detail) from error
    except (ArtifactMissing, ArtifactRefused) as error:
        detail = f"{artifact.path} is named on the journal but its bytes are gone: {error}"
        raise Problem(410, "artifact_gone", detail) from error
    except ArtifactStoreUnavailable as error:
        detail = f"the artifact store does not answer: {error}; try again later"
        raise Problem(503, "artifact_store_unavailable", detail) from error

    async def body() -> AsyncGenerator[bytes, None]:
        yield first
        async for chunk in chunks:
            yield chunk

    return body()


async def _nothing() -> AsyncGenerator[bytes, None]:
    chunks: tuple[bytes, ...] = ()
    for chunk in chunks:
        yield chunk


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/executions/{id}/artifacts",
        name="listArtifacts",
        summary="List artifacts",
        handler=list_artifacts,
        tag="Results",
        query=AttemptQuery,
        answer=Items[Artifact],
        problems=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/executions/{id}/artifacts/{attempt}/{path:name}",
        name="getArtifact",
        summary="Download an artifact",
        handler=get_artifact,
        tag="Results",
        query=ArtifactQuery,
        media={"application/octet-stream": "The bytes; `Range` and `If-None-Match` are honoured."},
        problems=(404, 409, 410, 416),
    ),
)
