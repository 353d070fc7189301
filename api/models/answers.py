"""What answers look like. Made from the rows of the read model by attribute; adds nothing."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ItemT = TypeVar("ItemT")
_STUCK = "While it waits: why no bench there is now can serve it; empty: one can."


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        return orjson.loads(value) if value else {}
    return value


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(from_attributes=True)


class Items(Answer, Generic[ItemT]):
    """A part of a list; `next_cursor` asks for the next, null: there is none."""

    items: list[ItemT]
    next_cursor: str | None = None


class Benches(Answer):
    """How many benches there are, by state."""

    total: int
    by_state: dict[str, int]


class Health(Answer):
    """When a bench of a pool counts as sick: more errors than are borne within the window."""

    errors_max: int
    window_s: float


class Pool(Answer):
    """A pool and its counts. `health` is null for a pool that was given no rule of its own."""

    pool: str
    benches: Benches
    reservations_queued: int
    executions_queued: int
    executions_active: int
    workers: int
    health: Health | None


class StepPolicy(Answer):
    """Limits of one step of an attempt; a timeout of null is the worker's default."""

    step: str
    timeout_s: float | None
    retries: int
    backoff_s: float


class Bench(Answer):
    """A bench and its holder. `quarantined_by` is who took it out of placement, null: nobody."""

    pool: str
    name: str
    labels: dict[str, str]
    adapter: str
    config: Annotated[dict[str, Any], BeforeValidator(_json_object)]
    steps: Annotated[list[StepPolicy], BeforeValidator(_json_object)]
    state: str
    fence: int
    holder_kind: str | None
    holder_id: str | None
    reason: str
    since: datetime
    quarantined_by: str | None


class AppliedBenches(Answer):
    """The benches of a pool that were registered or changed."""

    pool: str
    benches: list[Bench]


class RefusedLife(Answer):
    """A process that asked to be a worker whose id another one has, and was turned away."""

    host: str
    reason: str
    at: datetime


class Worker(Answer):
    """A worker in a pool."""

    worker: str
    pool: str
    epoch: int
    state: str
    adapters: list[str]
    benches: list[str]
    slots: int
    slots_used: int
    version: str
    since: datetime
    reason: str
    life: str
    host: str
    refused: RefusedLife | None


class Grant(Answer):
    """A bench given to a reservation."""

    bench: str
    fence: int


class Reservation(Answer):
    """A reservation and its life."""

    id: str
    pool: str
    status: str
    owner: str
    selectors: list[str]
    priority: int
    duration_s: float
    benches: list[Grant]
    requested_at: datetime
    granted_at: datetime | None
    lease_until: datetime | None
    wait_until: datetime | None
    ended_at: datetime | None
    code: str
    reason: str
    queue_position: int | None
    stuck: str = Field(default="", description=_STUCK)


class Totals(Answer):
    """How many test cases ended how."""

    passed: int
    failed: int
    errors: int
    skipped: int


class Attempt(Answer):
    """One try of an execution."""

    number: int
    bench: str
    worker: str
    fence: int
    status: str
    step: str
    verdict: str | None
    code: str
    reason: str
    fault: str
    exit_code: int | None
    signal: int | None
    started_at: datetime
    finished_at: datetime | None
    totals: Totals


class Execution(Answer):
    """An execution with its attempts."""

    id: str
    pool: str
    status: str
    verdict: str | None
    code: str
    reason: str
    fault: str
    owner: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    bench: str | None
    reservation_id: str | None
    selector: str
    priority: int
    retries: int
    retries_on_failure: int
    verdict_by: str
    is_flaky: bool
    exit_code: int | None
    command: list[str]
    totals: Totals
    queue_position: int | None
    attempts: list[Attempt]
    correlation_id: str
    traceparent: str
    stuck: str = Field(default="", description=_STUCK)


class Case(Answer):
    """A test case of an attempt."""

    attempt: int
    suite: str
    classname: str
    name: str
    status: str
    duration_s: float
    message: str
    details: str
    is_flaky: bool


class Artifact(Answer):
    """A file kept of an attempt; `href` gives its bytes."""

    attempt: int
    path: str
    kind: str
    size_bytes: int
    sha256: str
    href: str


class LogLine(Answer):
    """One line of output."""

    n: int
    stream: str
    text: str


class LogPart(Answer):
    """Lines of an attempt; `next_line` asks for the next ones, unless the log is complete."""

    attempt: int
    lines: list[LogLine]
    next_line: int
    is_complete: bool


class CommandOutcome(Answer):
    """What became of a command."""

    id: str
    status: str
    type: str
    subject_id: str
    code: str
    reason: str
    at: datetime
    position: str


class DeadLetter(Answer):
    """An input that nobody could take, or an execution that the lab could not run."""

    id: str
    kind: str
    status: str
    pool: str
    execution_id: str | None
    type: str
    error: str
    found_at: datetime
    found_by: str
    source_topic: str
    source_partition: int
    source_offset: int
    source_at: datetime
    size_bytes: int
    is_cut: bool
    settled_by: str | None
    settled_at: datetime | None
    settled_reason: str
    replays: int


class WholeDeadLetter(DeadLetter):
    """A dead letter with all it holds; `value_hex` (its first bytes) if it cannot be decoded.

    A letter that is cut holds the first `held_bytes` of a record of `size_bytes`, whose SHA-256 is
    `sha256`; it cannot be replayed.
    """

    held_bytes: int
    sha256: str
    stack: str
    key: str | None
    headers: dict[str, str]
    value: dict[str, Any] | None
    undecodable: str
    value_hex: str


class ReplayedLetter(DeadLetter):
    """What became of a replay; not put back: what it holds was decided before.

    `outcome` is that of the command it holds; null: it holds none, or it is not decided yet.
    """

    is_put_back: bool
    put_back_offset: int | None
    command_id: str | None
    outcome: str | None
    outcome_reason: str
    new_execution_id: str | None


class Pending(Answer):
    """A command whose outcome takes longer; `href` is where to look.

    `detail` says why it may take long, if that is known: nobody serves its partition now.
    """

    command_id: str
    href: str
    detail: str = ""


class WhoAmI(Answer):
    """Who the token stands for."""

    actor: str
    roles: list[str]


class Status(Answer):
    """Whether the process is alive."""

    status: str


class Check(Answer):
    """One condition of readiness."""

    is_ok: bool
    detail: str


class Readiness(Answer):
    """Whether the process can serve: ready, degraded (something is wrong elsewhere), not_ready."""

    status: str
    checks: dict[str, Check]


class RegisteredSchema(Answer):
    """A schema as the Confluent registry gives it by subject and version."""

    subject: str
    version: int
    id: int
    type: str = Field(default="AVRO", serialization_alias="schemaType")
    text: str = Field(serialization_alias="schema")


class ProblemDetails(Answer):
    """An error (RFC 9457): `detail` names the thing and the next step."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    command_id: str | None = None
    errors: list[dict[str, Any]] | None = None
