"""The pages: sign-in, the overview and one execution. They read; nothing is changed here."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from api.auth.principal import Principal, Role
from api.body import read_body
from api.dashboard.render import ASSETS, PAGE_HEADERS, asset, page
from api.dashboard.views import execution_view, overview_view
from api.edge import COOKIE, authenticated
from api.service import Service
from events import facts

COOKIE_S_MAX = 7 * 24 * 3600
SIGN_IN_BYTES_MAX = 4_096
EVENT_TYPES = ",".join(sorted(kind.__name__ for kind in facts.Event.__args__))

Page = Callable[[Request, Principal], Awaitable[Response]]


def dashboard_routes(service: Service) -> Sequence[Route]:
    """Return the routes of the pages."""
    pages = _Pages(service)
    return [
        Route("/", pages.home, methods=["GET"]),
        Route("/signin", pages.sign_in, methods=["POST"]),
        Route("/signout", pages.sign_out, methods=["POST"]),
        Route("/executions/{id}", pages.of(pages.execution), methods=["GET"]),
        Route("/ui/overview", pages.of(pages.overview_part, is_part=True), methods=["GET"]),
        Route("/ui/executions/{id}", pages.of(pages.execution_part, is_part=True), methods=["GET"]),
        *[Route(f"/assets/{name}", _asset(name), methods=["GET"]) for name in ASSETS],
    ]


def _asset(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_: Request) -> Response:
        headers = {"Cache-Control": "no-cache"}
        return Response(asset(name), media_type=ASSETS[name], headers=headers)

    return serve


class _Pages:
    def __init__(self, service: Service) -> None:
        self._service = service

    def of(self, show: Page, *, is_part: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that shows a page to who is signed in."""

        async def endpoint(request: Request) -> Response:
            principal = await self._principal(request)
            if principal is not None:
                return await show(request, principal)
            if is_part:
                return Response(status_code=401)
            return page("signin.html", problem="", status=401)

        return endpoint

    async def home(self, request: Request) -> Response:
        """The overview; `?token=` signs in and goes on without it."""
        token = request.query_params.get("token")
        if token is not None:
            return await self._signed_in(request, token)
        principal = await self._principal(request)
        if principal is None:
            return page("signin.html", problem="")
        view = await overview_view(self._service)
        return page(
            "overview.html", place="overview", who=principal, view=view, event_types=EVENT_TYPES
        )

    async def sign_in(self, request: Request) -> Response:
        """Take the token of the form."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return page("signin.html", problem="Sign in from this page.", status=403)
        form = parse_qs((await read_body(request, bytes_max=SIGN_IN_BYTES_MAX)).decode("latin-1"))
        return await self._signed_in(request, form.get("token", [""])[0])

    async def sign_out(self, request: Request) -> Response:
        """Forget the token."""
        del request
        response = RedirectResponse("/", status_code=303, headers=PAGE_HEADERS)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    async def overview_part(self, request: Request, principal: Principal) -> Response:
        """The overview without its frame, for a page that is open."""
        del request, principal
        return page("overview_part.html", view=await overview_view(self._service))

    async def execution(self, request: Request, principal: Principal) -> Response:
        """One execution with its live log."""
        view = await execution_view(self._service, request.path_params["id"])
        if view is None:
            return page("missing.html", who=principal, id=request.path_params["id"], status=404)
        return page("execution.html", who=principal, view=view)

    async def execution_part(self, request: Request, principal: Principal) -> Response:
        """One execution without frame and log."""
        del principal
        view = await execution_view(self._service, request.path_params["id"])
        if view is None:
            return Response(status_code=404)
        return page("execution_part.html", view=view)

    async def _principal(self, request: Request) -> Principal | None:
        principal = await authenticated(request, self._service)
        return principal if principal is not None and principal.may(Role.viewer) else None

    async def _signed_in(self, request: Request, token: str) -> Response:
        principal = await self._service.deps.authenticator.authenticate(token.strip())
        if principal is None:
            problem = "This token is not known here. Copy it whole, without spaces."
            return page("signin.html", problem=problem, status=401)
        response = RedirectResponse("/", status_code=303, headers=PAGE_HEADERS)
        response.set_cookie(
            COOKIE,
            token.strip(),
            max_age=COOKIE_S_MAX,
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response
