"""The routes, one noun per file; each file declares its operations."""

from collections.abc import Sequence

from api.operations import Operation
from api.routes import (
    artifacts,
    benches,
    commands,
    dead_letters,
    events,
    executions,
    health,
    logs,
    pools,
    registry,
    reservations,
    results,
    whoami,
    workers,
)


def operations() -> Sequence[Operation]:
    """Return every operation of the API, in the order the documentation shows them."""
    return (
        *pools.OPERATIONS,
        *benches.OPERATIONS,
        *workers.OPERATIONS,
        *reservations.OPERATIONS,
        *executions.OPERATIONS,
        *results.OPERATIONS,
        *artifacts.OPERATIONS,
        *logs.OPERATIONS,
        *events.OPERATIONS,
        *commands.OPERATIONS,
        *dead_letters.OPERATIONS,
        *whoami.OPERATIONS,
        *registry.OPERATIONS,
        *health.OPERATIONS,
    )
