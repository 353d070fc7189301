"""The bodies of requests. Checks form only: what the scheduler decides is not decided here."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from events.errors import InvalidSelector
from events.secrets import secrets_fault
from events.selector import SELECTOR_CHARS_MAX, parse
from events.shared import LIMIT_BYTES_MAX, LIMIT_BYTES_MIN, LIMIT_PROCESSES_MAX

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
SET_BY_US = frozenset(
    {
        "TEO_ARTIFACTS_DIR",
        "TEO_ATTEMPT",
        "TEO_BENCH",
        "TEO_BENCH_LABELS",
        "TEO_DEADLINE",
        "TEO_EXECUTION_ID",
        "TEO_FENCE",
        "TRACEPARENT",
    }
)
"""Variables that say to a test where it runs: nobody else may set them."""
BENCHES_MAX = 500
SELECTORS_MAX = 64
LABELS_MAX = 64
COMMAND_ARGS_MAX = 1_000
ENV_MAX = 1_000
GLOBS_MAX = 100
REASON_CHARS_MAX = 1_000
HEALTH_ERRORS_MAX = 1_000
DURATION_S_MAX = 30 * 24 * 3600.0
PRIORITY_MAX = 1_000
RETRIES_MAX = 10
LEASE_S_DEFAULT = 1_800.0
RETRIES_DEFAULT = 2
BACKOFF_S_DEFAULT = 1.0
BACKOFF_S_MAX = 300.0
_SHOWN_CHARS_MAX = 200
TIMEOUT_S_DEFAULT = 3_600.0


def _selector(text: str) -> str:
    try:
        parse(text)
    except InvalidSelector as error:
        raise PydanticCustomError("invalid_selector", "{text}", {"text": str(error)}) from error
    return text


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN[1:-1], text):
        message = "{text} is no name; use 1 to 128 letters, digits, '.', '_' and '-', first no sign"
        raise PydanticCustomError("invalid_name", message, {"text": repr(text[:_SHOWN_CHARS_MAX])})
    return text


def _variable(text: str) -> str:
    shown = {"text": repr(text[:_SHOWN_CHARS_MAX])}
    if not re.fullmatch(VARIABLE_PATTERN[1:-1], text):
        message = "{text} is no name of a variable; use letters, digits and '_', first no digit"
        raise PydanticCustomError("invalid_variable", message, shown)
    if text in SET_BY_US:
        message = "{text} is set for each attempt and cannot be given; use another name"
        raise PydanticCustomError("invalid_variable", message, shown)
    return text


def _glob(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        message = "{text} leaves the workspace; write a path below it, without '..'"
        raise PydanticCustomError("invalid_glob", message, {"text": repr(text)})
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("invalid_command", "a NUL character cannot be passed on")
    return text


def _duration(seconds: float) -> float:
    if not 0 < seconds <= DURATION_S_MAX:
        message = "a duration is more than 0 and at most {max} seconds, {days} days"
        most = {"max": int(DURATION_S_MAX), "days": int(DURATION_S_MAX // 86_400)}
        raise PydanticCustomError("invalid_duration", message, most)
    return seconds


Name = Annotated[str, Field(json_schema_extra={"pattern": NAME_PATTERN}), AfterValidator(_name)]
Variable = Annotated[
    str, Field(json_schema_extra={"pattern": VARIABLE_PATTERN}), AfterValidator(_variable)
]
SelectorText = Annotated[str, Field(max_length=SELECTOR_CHARS_MAX), AfterValidator(_selector)]
Duration = Annotated[float, AfterValidator(_duration)]
Priority = Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Glob = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_glob)]
Argument = Annotated[str, AfterValidator(_no_nul)]
Reason = Annotated[str, Field(max_length=REASON_CHARS_MAX)]


class RequestBody(BaseModel):
    """A body that takes no unknown field and no wrong type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StepPolicyBody(RequestBody):
    """Limits of one step of an attempt."""

    timeout_s: Duration | None = Field(
        default=None, description="Longest time of one try; null: the worker's default."
    )
    retries: int = Field(
        default=0, ge=0, le=RETRIES_MAX, description="More tries on the same bench."
    )
    backoff_s: float = Field(
        default=BACKOFF_S_DEFAULT,
        ge=0,
        le=BACKOFF_S_MAX,
        description="Pause before the second try; it doubles with each further one.",
    )


class BenchBody(RequestBody):
    """A bench as it shall be."""

    name: Name = Field(description="Name of the bench, unique in its pool.")
    labels: dict[Annotated[str, Field(min_length=1, max_length=128)], str] = Field(
        default_factory=dict, max_length=LABELS_MAX, description="Labels that selectors match."
    )
    adapter: Name = Field(description="Adapter that drives it, e.g. `local` or `mock`.")
    config: dict[str, Any] = Field(
        default_factory=dict, description="Configuration of the adapter."
    )
    steps: dict[Literal["provision", "collect", "teardown"], StepPolicyBody] = Field(
        default_factory=dict, description="Limits of its steps, by step."
    )


class HealthBody(RequestBody):
    """When a bench of the pool counts as sick."""

    errors_max: int = Field(
        ge=0,
        le=HEALTH_ERRORS_MAX,
        description="Infrastructure errors within the window that are borne; one more is too many.",
    )
    window_s: Duration = Field(description="Length of the sliding window.")


class ApplyBenchesBody(RequestBody):
    """Benches to register, or to change where the name is known."""

    benches: list[BenchBody] = Field(min_length=1, max_length=BENCHES_MAX)
    health: HealthBody | None = Field(
        default=None, description="The pool's rule for sick benches; null: as before."
    )


class QuarantineBody(RequestBody):
    """Why a bench is taken out of placement."""

    reason: Reason = ""


class RestoreBody(RequestBody):
    """Nothing: the bench is named by the path."""


class DrainBody(RequestBody):
    """Why a worker shall leave."""

    reason: Reason = ""


class ResumeBody(RequestBody):
    """Why a suspended worker may have attempts again."""

    reason: Reason = ""


class ReplayBody(RequestBody):
    """Why a dead letter is put back, and whether also if it still cannot be read."""

    reason: Reason = ""
    force: bool = Field(default=False, description="Also if it still cannot be read.")


class DiscardBody(RequestBody):
    """Why a dead letter is settled without replaying it."""

    reason: Annotated[str, Field(min_length=1, max_length=REASON_CHARS_MAX)]


class ReservationBody(RequestBody):
    """An ask for benches to hold for a time; all of them or none."""

    pool: Name | None = Field(default=None, description="Left out: the only pool there is.")
    selectors: list[SelectorText] = Field(
        default_factory=lambda: [""],
        min_length=1,
        max_length=SELECTORS_MAX,
        description="One for each bench wanted, e.g. `board=rpi4`; empty text: any bench.",
    )
    duration_s: Duration = Field(default=LEASE_S_DEFAULT, description="Length of the lease.")
    wait_timeout_s: Duration | None = Field(
        default=None, description="How long to wait for benches; null: for ever."
    )
    priority: Priority = Field(default=0, description="Higher first.")


class ExtendBody(RequestBody):
    """By how much the end of a lease moves."""

    duration_s: Duration = Field(description="By how many seconds.")


def _no_secrets(env: dict[str, str]) -> dict[str, str]:
    what, hint = secrets_fault(env)
    if what:
        raise PydanticCustomError("invalid_secret", "{text}", {"text": f"{what}; {hint}"})
    return env


class RunBody(RequestBody):
    """What is run on the bench, and its limits."""

    command: list[Argument] = Field(
        min_length=1, max_length=COMMAND_ARGS_MAX, description="Program and arguments."
    )
    env: Annotated[dict[Variable, Argument], AfterValidator(_no_secrets)] = Field(
        default_factory=dict,
        max_length=ENV_MAX,
        description="Environment variables to add; none with a secret: all who may look see them.",
    )
    timeout_s: Duration = Field(
        default=TIMEOUT_S_DEFAULT, description="Longest time the command may take."
    )
    idle_timeout_s: Duration | None = Field(
        default=None, description="Longest silence of the command; null: no limit."
    )
    junit: list[Glob] = Field(
        default_factory=list, max_length=GLOBS_MAX, description="Globs of JUnit XML reports."
    )
    artifacts: list[Glob] = Field(
        default_factory=list, max_length=GLOBS_MAX, description="Globs of files to keep."
    )
    verdict_by: Literal["both", "exit-code", "report"] = Field(
        default="both",
        description="What decides when exit code and report do not agree; both: a pass needs both.",
    )
    memory_max_bytes: int | None = Field(
        default=None,
        ge=LIMIT_BYTES_MIN,
        le=LIMIT_BYTES_MAX,
        description="Memory all its processes may take together; null: what the bench allows.",
    )
    processes_max: int | None = Field(
        default=None,
        ge=1,
        le=LIMIT_PROCESSES_MAX,
        description="Processes and threads it may have at once; null: what the bench allows.",
    )
    disk_max_bytes: int | None = Field(
        default=None,
        ge=LIMIT_BYTES_MIN,
        le=LIMIT_BYTES_MAX,
        description="What may lie in its workspace; null: what the bench allows.",
    )


class ExecutionBody(RequestBody):
    """An ask for a test run."""

    pool: Name | None = Field(
        default=None, description="Left out: the reservation's, or the only one there is."
    )
    selector: SelectorText = Field(
        default="", description="Which benches may serve, e.g. `board=rpi4,site in (muc,ber)`."
    )
    reservation_id: str | None = Field(
        default=None,
        max_length=128,
        description="The reservation to run in; null: a bench of its own.",
    )
    priority: Priority = Field(default=0, description="Higher first.")
    wait_timeout_s: Duration | None = Field(
        default=None, description="How long to wait for its first bench; null: for ever."
    )
    retries: int = Field(
        default=RETRIES_DEFAULT,
        ge=0,
        le=RETRIES_MAX,
        description="More attempts after infrastructure errors.",
    )
    retries_on_failure: int = Field(
        default=0,
        ge=0,
        le=RETRIES_MAX,
        description="More attempts after tests that failed; all attempts are kept.",
    )
    run: RunBody
