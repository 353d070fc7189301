"""What the scheduler must remember to decide, for one pool and for one partition of pools.

Data only: `evolve` alone changes it; it holds nothing that no decision reads.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from events.codes import OF_NO_BENCH
from events.facts import AttemptFinished
from events.selector import parse
from events.shared import BenchSpec, RunSpec, StepPolicy

EPOCH = datetime.fromtimestamp(0, UTC)
MATCHES_MAX = 10_000
"""Selectors of a pool whose benches are remembered: anybody may ask by ever new ones."""


@dataclass(slots=True)
class Cleaning:
    """A teardown that is owed by somebody else than the attempt itself."""

    spec: BenchSpec
    """The bench as it was when the attempt began: its adapter made the handle."""

    execution_id: str
    attempt: int
    fence: int
    handle: str | None
    since: datetime
    worker: str = ""
    """Who was told; empty: nobody yet."""
    epoch: int = -1


@dataclass(slots=True)
class Bench:
    """A bench, its holder and its fence."""

    spec: BenchSpec
    version: int = 0
    """Seq of the event since which its adapter and config are as they are."""
    is_online: bool = False
    offline: str = ""
    """Why it is offline, as it was told last; empty: it is online, or nobody served it yet."""
    fence: int = 0
    holder: str = ""
    """Id of the reservation or execution that holds it; empty: nobody."""
    attempt_of: str = ""
    """Id of the execution whose attempt is on it; empty: none."""
    cleaning: Cleaning | None = None
    quarantine: str = ""
    """Why it is out of placement; empty: it is not."""

    @property
    def is_free(self) -> bool:
        """True if it can be granted."""
        return self.is_usable and not self.holder

    @property
    def is_usable(self) -> bool:
        """True if an attempt could start on it for whoever holds it."""
        return (
            self.is_online and not self.attempt_of and self.cleaning is None and not self.quarantine
        )


@dataclass(slots=True)
class Trace:
    """What joins all that follows from one request."""

    correlation_id: str
    traceparent: str


@dataclass(slots=True)
class Reservation:
    """A reservation that waits or is granted."""

    id: str
    owner: str
    selectors: tuple[str, ...]
    duration_s: float
    wait_until: datetime | None
    priority: int
    order: int
    requested_at: datetime
    trace: Trace
    benches: tuple[str, ...] = ()
    lease_until: datetime | None = None

    @property
    def is_granted(self) -> bool:
        """True once the benches are given."""
        return self.lease_until is not None


ExecutionState = Literal["waiting", "backoff", "active", "attempt_over"]


@dataclass(slots=True)
class Execution:
    """An execution that is not finished. Fields of the attempt are those of the last one made."""

    id: str
    owner: str
    selector: str
    reservation_id: str | None
    priority: int
    order: int
    wait_until: datetime | None
    retries: int
    retries_on_failure: int
    run: RunSpec
    submitted_at: datetime
    trace: Trace
    state: ExecutionState = "waiting"
    attempt: int = 0
    errors: int = 0
    """How many attempts ended in an error of the lab."""
    failures: int = 0
    """How many attempts ended in tests that failed."""
    not_before: datetime = EPOCH
    avoid_bench: str = ""
    started_at: datetime | None = None
    assigned_at: datetime | None = None
    bench: str = ""
    fence: int = 0
    worker: str = ""
    epoch: int = -1
    spec: BenchSpec | None = None
    """Its bench as it was when the attempt began: its worker keeps to these limits, and only that
    adapter can tear down what it made."""
    step: str = ""
    handle: str | None = None
    cases: int = 0
    """How many test cases of the attempt are recorded."""
    cancel: tuple[str, str] | None = None
    """Code and reason, once its end was asked for."""
    last: AttemptFinished | None = None

    @property
    def steps(self) -> tuple[StepPolicy, ...]:
        """What its bench allowed for its steps when the attempt began."""
        return self.spec.steps if self.spec is not None else ()

    @property
    def avoid_worker(self) -> str:
        """The worker that another attempt had better not go to; empty: there is none."""
        last = self.last
        if last is None or last.verdict != "error" or last.fault not in OF_NO_BENCH:
            return ""
        return last.worker


@dataclass(frozen=True, slots=True)
class Checked:
    """What a worker said of a bench; an empty code: it takes it."""

    version: int
    code: str
    reason: str


@dataclass(slots=True)
class Worker:
    """A worker that is registered and not lost."""

    id: str
    epoch: int
    adapters: frozenset[str]
    benches: frozenset[str]
    slots: int
    life: str = ""
    """Id of the life that is registered; empty: of a worker from before lives had ids, which checks
    no benches."""
    host: str = ""
    """Where it runs, for whoever is told that this worker's id is in use."""
    is_draining: bool = False
    suspended: str = ""
    """Code of why it gets no attempts; empty: it gets them."""
    why_suspended: str = ""
    faults: int = 0
    """How many attempts in a row ended by its own fault."""
    checks: dict[str, Checked] = field(default_factory=dict)
    """What it said of each bench that it was to look at."""
    running: set[str] = field(default_factory=set)
    """Executions whose attempt it has."""
    refused: tuple[str, ...] = ()
    """Lives that were turned away while this one is registered, the last ones: each is one fact."""

    def serves(self, bench: Bench) -> bool:
        """Return True if an attempt on `bench` may go to it, slots aside."""
        return (
            not self.is_draining
            and not self.suspended
            and self.is_for(bench.spec.adapter, bench.spec.name)
            and self.accepts(bench)
        )

    def is_for(self, adapter: str, bench: str) -> bool:
        """Return True if it has the adapter and is to serve a bench of that name."""
        return adapter in self.adapters and (not self.benches or bench in self.benches)

    def accepts(self, bench: Bench) -> bool:
        """Return True if its adapter took the bench as it is registered now."""
        if not self.life:
            return True
        checked = self.checks.get(bench.spec.name)
        return checked is not None and checked.version == bench.version and not checked.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """An attempt that the heartbeats of its worker do not name."""

    attempt: int
    since_s: float
    """When the first such heartbeat was read, on the runtime's monotonic clock."""
    beats: int
    """How many there were."""


@dataclass(slots=True)
class Ended:
    """What is kept of a finished reservation or execution for the idempotency window."""

    kind: Literal["reservation", "execution"]
    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump forward of the clock that stamps inputs: no time passed in the `by_s` before `at`."""

    at: datetime
    by_s: float


ClassKey = tuple[str, ...]
"""Asks with the same key can be served by the same benches: ("own"|reservation id|"gang", …)."""


@dataclass(slots=True)
class Queue:
    """Asks that wait, by class, each class in order of service.

    Asks of a class have the same needs: if the first cannot be served, no other of it can. So
    placement looks at classes, of which there are few, not at asks, of which there may be many.
    """

    classes: dict[ClassKey, list[tuple[int, int, str]]] = field(default_factory=dict)

    def add(self, key: ClassKey, priority: int, order: int, ask_id: str) -> None:
        """Put an ask in its place."""
        insort(self.classes.setdefault(key, []), (-priority, order, ask_id))

    def remove(self, key: ClassKey, priority: int, order: int, ask_id: str) -> None:
        """Take an ask out, if it is in."""
        entries = self.classes.get(key, [])
        entry = (-priority, order, ask_id)
        place = bisect_left(entries, entry)
        if entries[place : place + 1] == [entry]:
            del entries[place]
        if not entries:
            self.classes.pop(key, None)

    def heads(self) -> list[tuple[tuple[int, int, str], ClassKey]]:
        """Return the first ask of each class, in order of service."""
        return sorted((entries[0], key) for key, entries in self.classes.items())


@dataclass(slots=True)
class Pool:
    """Everything the scheduler knows of one pool."""

    name: str
    benches: dict[str, Bench] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    """Highest epoch each worker ever registered."""
    lives: dict[str, str] = field(default_factory=dict)
    """Newest life each worker ever registered: once it is over it does not come back."""
    ended: dict[str, Ended] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    backoff: set[str] = field(default_factory=set)
    """Executions that wait for their `not_before`."""
    free: set[str] = field(default_factory=set)
    """Benches that can be granted; always equal to those with `is_free`."""
    matches: dict[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)
    """Benches that match a selector, sorted; a cache."""

    def matching(self, selector: str) -> tuple[str, ...]:
        """Return the names of all benches that match `selector`, sorted."""
        found = self.matches.get(selector)
        if found is None:
            wanted = parse(selector)
            found = tuple(
                name
                for name in sorted(self.benches)
                if wanted.matches(self.benches[name].spec.labels)
            )
            if len(self.matches) >= MATCHES_MAX:
                self.matches.clear()
            self.matches[selector] = found
        return found

    def held_by(self, holder_id: str) -> list[Bench]:
        """Return the benches a reservation or execution holds."""
        return [bench for bench in self.benches.values() if bench.holder == holder_id]

    def executions_in(self, reservation_id: str) -> list[Execution]:
        """Return the live executions inside a reservation, oldest first."""
        found = (e for e in self.executions.values() if e.reservation_id == reservation_id)
        return sorted(found, key=lambda execution: execution.order)

    def worker_for(self, bench: Bench, *, avoid: str = "", is_wary: bool = False) -> Worker | None:
        """Return the worker with a free slot for an attempt on `bench`; None: no one.

        It is the one with the fewest faults of its own, then the least loaded; never `avoid`, and
        if `is_wary`, none that has any fault.
        """
        fit = (
            worker
            for worker in self.workers.values()
            if len(worker.running) < worker.slots
            and worker.id != avoid
            and not (is_wary and worker.faults)
            and worker.serves(bench)
        )
        return min(fit, key=lambda each: (each.faults, len(each.running), each.id), default=None)

    def is_served(self, bench: Bench) -> bool:
        """Return True if a registered worker serves `bench`, slots aside."""
        return any(worker.serves(bench) for worker in self.workers.values())


def class_of(ask: Reservation | Execution) -> ClassKey:
    """Return the queue class of an ask."""
    if isinstance(ask, Reservation):
        return ("gang", *ask.selectors)
    return ("run", ask.reservation_id or "", ask.selector)


@dataclass(slots=True)
class Ledger:
    """State of one partition: its pools, the commands decided, and where it stands."""

    partition: int
    pools: dict[str, Pool] = field(default_factory=dict)
    known: dict[str, datetime] = field(default_factory=dict)
    """Commands decided within the idempotency window, or among the newest, oldest first."""
    seq: int = 0
    """Number the next event gets."""
    positions: dict[str, int] = field(default_factory=dict)
    """For each input topic, the offset of the last input that decided something."""
    inputs: dict[str, str] = field(default_factory=dict)
    """For each input topic, the id of that input; empty or missing: the journal does not say."""
    topics: dict[str, str] = field(default_factory=dict)
    """Kafka's ids of the topics that the partition is decided with, by name."""
    began: datetime = EPOCH
    """Log time of the first event: what is told of earlier times is of a journal before this."""
    now: datetime = EPOCH
    """Log time of the last decision; never goes backwards."""
    jumps: list[Jump] = field(default_factory=list)
    """Jumps of the clock within the idempotency window, oldest first."""
    heard: dict[tuple[str, str], float] = field(default_factory=dict, compare=False, repr=False)
    """When each (pool, worker) was last heard of, in seconds of the runtime's monotonic clock.

    Not a fact: heartbeats leave no event. Empty after a takeover: each gets a full deadline."""
    unnamed: dict[tuple[str, str], dict[str, Unnamed]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """For each (pool, worker), its attempts that its last heartbeat did not name, by execution.

    Not a fact either: after a takeover the count begins anew."""

    def workers(self) -> Iterator[tuple[Pool, Worker]]:
        """Yield every registered worker with its pool, in a fixed order."""
        for name in sorted(self.pools):
            pool = self.pools[name]
            for worker_id in sorted(pool.workers):
                yield pool, pool.workers[worker_id]
