"""What the app is made of, given by the role that serves it. Holds no logic."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import uuid_utils
from prometheus_client import REGISTRY, CollectorRegistry

from api.auth.principal import Authenticator
from api.limits import BODY_BYTES_MAX, COMMAND_WAIT_S, SSE_CLIENTS_MAX, SSE_KEEP_ALIVE_S
from events.log import Log
from events.topics import Topics
from processors.artifacts.store import ArtifactStore
from projections.feed import ChangeFeed
from projections.read_model import ReadModel
from projections.runtime import Projector


def utc_now() -> datetime:
    """Return the wall clock, aware UTC."""
    return datetime.now(UTC)


def uuid7() -> UUID:
    """Return a fresh UUIDv7."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an environment may set."""

    version: str = "0.1.0"
    command_wait_s: float = COMMAND_WAIT_S
    body_bytes_max: int = BODY_BYTES_MAX
    sse_clients_max: int = SSE_CLIENTS_MAX
    sse_keep_alive_s: float = SSE_KEEP_ALIVE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What the app is made of.

    `on_fatal` is called when the projector or a tail cannot go on: the role then ends itself.
    `stopping` may be set by the role before it stops, so that open streams end at once.
    """

    log: Log
    topics: Topics
    projector: Projector
    reads: ReadModel
    feed: ChangeFeed
    artifacts: ArtifactStore
    authenticator: Authenticator
    clock: Callable[[], datetime] = utc_now
    new_id: Callable[[], UUID] = uuid7
    settings: Settings = Settings()
    registry: CollectorRegistry = REGISTRY
    topics_fault: Callable[[], str] = lambda: ""
    """What is dangerous in the settings of the topics now; empty: nothing."""
    on_fatal: Callable[[], None] | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
