"""What all attempts of one life of a worker share. Data only."""

from dataclasses import dataclass

from events.log import Log
from events.topics import Topics
from processors.artifacts.store import ArtifactStore
from processors.worker.calls import Strays
from processors.worker.clock import Clock
from processors.worker.fitness import Fitness
from processors.worker.outbox import Outbox
from processors.worker.settings import WorkerSettings
from processors.worker.state_dir import StateDir
from processors.worker.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all attempts of one life share."""

    log: Log
    topics: Topics
    settings: WorkerSettings
    store: ArtifactStore
    clock: Clock
    telemetry: Telemetry
    state: StateDir
    strays: Strays
    outbox: Outbox
    fitness: Fitness
    epoch: int
