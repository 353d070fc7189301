"""Wires each role by hand from its parts. Holds no logic of its own."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import structlog
import uuid_utils
from opentelemetry import metrics

from adapters.registry import load_adapters
from cli.health import Server, health_app, serving
from cli.process import Role, now, until
from cli.version import version
from events.kafka.admin import wait_for_broker
from events.kafka.log import KafkaLog
from events.topics import Topics
from processors.artifacts.files import FileStore
from processors.runtime.owner import Clock
from processors.runtime.service import Scheduler
from processors.worker.agent import Worker
from processors.worker.discovery import pools
from processors.worker.settings import WorkerSettings

BROKER_WAIT_S = 60.0
WORKER_RESTART_S = 2.0

logger = structlog.get_logger()


def new_id() -> str:
    """Return a fresh UUIDv7 as text."""
    return str(uuid_utils.uuid7())


def scheduler_role(*, kafka: str, prefix: str, host: str, health_port: int) -> Role:
    """Return the role that makes facts."""

    async def role(stop: asyncio.Event) -> None:
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        clock = Clock(now=now, monotonic_s=time.monotonic)
        async with KafkaLog(kafka, client_id="teo-scheduler") as log:
            scheduler = Scheduler(log, Topics(prefix), clock, metrics.get_meter("teo.scheduler"))
            app = health_app(lambda: scheduler.is_ready)
            async with serving(app, host=host, port=health_port):
                await until(stop, scheduler.run())

    return role
