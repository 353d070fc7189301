"""How a life of a worker gets registered: it asks until it is answered. Never touches a bench.

The life asks with every beat (`WorkerStarted`), for as long as nobody answers: the scheduler may
be away. Once accepted it has the epoch that the log gave it, and its beats are heartbeats. Refused,
it asks on, because whoever has its worker's id may be dead and not yet lost; after a while of
being refused it gives up.
"""

from dataclasses import dataclass

import structlog

from events.errors import TeoError
from events.shared import TaskMeta
from events.tasks import LifeRefused
from processors.worker.settings import WorkerSettings

log = structlog.get_logger()
TOLD_AGAIN_S = 10.0
"""How often the log of a worker that is refused says so."""


class IdInUse(TeoError):
    """Raised when another process is registered under this worker's id, and goes on being."""

    code = "worker_id_in_use"


@dataclass(slots=True)
class Identity:
    """Which life of a worker speaks."""

    life: str
    epoch: int
    """What its folder proposes; once the life is accepted, what the log gave it."""

    def is_for(self, meta: TaskMeta) -> bool:
        """Return True if a task is for this life."""
        return meta.life == self.life


class Refusals:
    """How long a life has been refused: the time of being answered, not of silence."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._last_s: float | None = None
        self._told_s: float | None = None
        self._refused_s = 0.0

    def note(self, task: LifeRefused, now: float) -> str:
        """Note one more, aloud; return why the life gives up, or nothing if it asks on."""
        if self._last_s is not None:
            self._refused_s += min(now - self._last_s, 2 * self._settings.heartbeat_s)
        self._last_s = now
        left_s = self._settings.refused_s - self._refused_s
        if self._told_s is None or now - self._told_s >= TOLD_AGAIN_S or left_s <= 0:
            self._told_s = now
            log.error(
                "worker.refused",
                worker=self._settings.worker,
                pool=self._settings.pool,
                runs_on=task.host,
                code=task.code,
                reason=task.reason,
                gives_up_in_s=round(max(0.0, left_s), 1),
            )
        if left_s > 0:
            return ""
        return (
            f"another process runs as worker {self._settings.worker!r}"
            f"{f' on {task.host}' if task.host else ''}: choose another --id, or stop that one"
        )
