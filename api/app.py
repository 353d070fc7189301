"""The app: routes over a service, wired by hand. Holds no logic."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from api.dashboard.pages import dashboard_routes
from api.deps import Deps
from api.docs_page import docs_routes
from api.edge import PathEndpoint
from api.observe import Observe
from api.operations import Operation
from api.problems import Problem, on_http_exception, on_problem, on_teo_error
from api.routes import operations
from api.service import Service
from events.errors import TeoError


class _Name(PathConvertor):
    """The rest of a path, whatever a file may be called: also with a line end in its name."""

    regex = r"(?s:.*)"


register_url_convertor("name", _Name())


def create_app(deps: Deps) -> Starlette:
    """Return the app over `deps`; its lifespan runs the projector and the tails."""
    service = Service(deps)
    declared = operations()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Starlette(
        routes=[
            *api_routes(declared, service),
            *docs_routes(declared, deps.settings.version),
            *dashboard_routes(service),
        ],
        middleware=[Middleware(Observe)],
        exception_handlers={
            Problem: on_problem,
            TeoError: on_teo_error,
            HTTPException: on_http_exception,
        },
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def api_routes(declared: Sequence[Operation], service: Service) -> Sequence[Route]:
    """Return one route for each path of the operations."""
    by_path: dict[str, list[Operation]] = defaultdict(list)
    for operation in declared:
        by_path[operation.path].append(operation)
    return [Route(path, PathEndpoint(found, service)) for path, found in by_path.items()]
