"""`/openapi.json` and the page that renders it. Needs nothing from outside."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.dashboard.render import page
from api.docs_view import groups
from api.encoding import dumps
from api.openapi import document
from api.operations import Operation


def docs_routes(declared: Sequence[Operation], version: str) -> Sequence[Route]:
    """Return the routes of the documentation."""
    described = document(declared, version=version)
    content = dumps(described)
    shown = groups(described)

    async def openapi(_: Request) -> Response:
        return Response(content, media_type="application/json")

    async def docs(_: Request) -> Response:
        return page("docs.html", info=described["info"], groups=shown)

    return [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
    ]
