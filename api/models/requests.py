"""The bodies of requests. Checks form only: what the scheduler decides is not decided here."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from adapters import grammar
from adapters.grammar import Wrong
from events.errors import InvalidSelector
from events.limits import (
    BENCHES_PER_COMMAND_MAX,
    DAY_S,
    GANG_SIZE_MAX,
    HEALTH_ERRORS_MAX,
    HEALTH_WINDOW_S_MAX,
    LEASE_S_MAX,
    LIMIT_BYTES_MAX,
    LIMIT_BYTES_MIN,
    LIMIT_PROCESSES_MAX,
    PRIORITY_MAX,
    REASON_CHARS_MAX,
    RETRIES_MAX,
    STEP_BACKOFF_S_MAX,
    STEP_RETRIES_MAX,
    STEP_S_MAX,
    TIMEOUT_S_MAX,
    WAIT_S_MAX,
)
from events.secrets import secrets_fault
from events.selector import SELECTOR_CHARS_MAX, parse

T = TypeVar("T")
NAME_PATTERN = f"^{grammar.NAME_PATTERN}$"
VARIABLE_PATTERN = f"^{grammar.VARIABLE_PATTERN}$"
LEASE_S_DEFAULT = 1_800.0
RETRIES_DEFAULT = 2
BACKOFF_S_DEFAULT = 1.0
TIMEOUT_S_DEFAULT = 3_600.0


def _selector(text: str) -> str:
    try:
        parse(text)
    except InvalidSelector as error:
        raise PydanticCustomError("invalid_selector", "{text}", {"text": str(error)}) from error
    return text


def _checked(check: Callable[[T], Wrong | None]) -> AfterValidator:
    """Return a check by the one grammar that API, CLI, scheduler and adapters share."""

    def validate(asked: T) -> T:
        if (wrong := check(asked)) is not None:
            raise PydanticCustomError(wrong.code, "{text}", {"text": str(wrong)})
        return asked

    return AfterValidator(validate)


def _duration(most_s: float) -> AfterValidator:
    def validate(seconds: float) -> float:
        if not 0 < seconds <= most_s:
            message = "a duration is more than 0 and at most {max} seconds, {days} days"
            most = {"max": int(most_s), "days": int(most_s // DAY_S)}
            raise PydanticCustomError("invalid_duration", message, most)
        return seconds

    return AfterValidator(validate)


_NAME = Field(json_schema_extra={"pattern": NAME_PATTERN})
BenchName = Annotated[str, _NAME, _checked(lambda text: grammar.wrong_name(text, "bench"))]
PoolName = Annotated[str, _NAME, _checked(lambda text: grammar.wrong_name(text, "pool"))]
AdapterName = Annotated[str, _NAME, _checked(lambda text: grammar.wrong_name(text, "adapter"))]
Labels = Annotated[
    dict[str, str],
    Field(json_schema_extra={"maxProperties": grammar.LABELS_MAX}),
    _checked(grammar.wrong_labels),
]
Variables = Annotated[
    dict[Annotated[str, Field(json_schema_extra={"pattern": VARIABLE_PATTERN})], str],
    Field(json_schema_extra={"maxProperties": grammar.VARIABLES_MAX}),
    _checked(grammar.wrong_variables),
]
Command = Annotated[
    list[str],
    Field(json_schema_extra={"minItems": 1, "maxItems": grammar.WORDS_MAX}),
    _checked(grammar.wrong_command),
]
_GLOB_SIZES = {"minLength": 1, "maxLength": grammar.GLOB_CHARS_MAX}
Globs = Annotated[
    list[Annotated[str, Field(json_schema_extra=_GLOB_SIZES)]],
    Field(json_schema_extra={"maxItems": grammar.GLOBS_MAX}),
    _checked(grammar.wrong_globs),
]
SelectorText = Annotated[str, Field(max_length=SELECTOR_CHARS_MAX), AfterValidator(_selector)]
Timeout = Annotated[float, _duration(TIMEOUT_S_MAX)]
Wait = Annotated[float, _duration(WAIT_S_MAX)]
Lease = Annotated[float, _duration(LEASE_S_MAX)]
StepTime = Annotated[float, _duration(STEP_S_MAX)]
Window = Annotated[float, _duration(HEALTH_WINDOW_S_MAX)]
Priority = Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Reason = Annotated[str, Field(max_length=REASON_CHARS_MAX)]


class RequestBody(BaseModel):
    """A body that takes no unknown field and no wrong type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StepPolicyBody(RequestBody):
    """Limits of one step of an attempt."""

    timeout_s: StepTime | None = Field(
        default=None, description="Longest time of one try; null: the worker's default."
    )
    retries: int = Field(
        default=0, ge=0, le=STEP_RETRIES_MAX, description="More tries on the same bench."
    )
    backoff_s: float = Field(
        default=BACKOFF_S_DEFAULT,
        ge=0,
        le=STEP_BACKOFF_S_MAX,
        description="Pause before the second try; it doubles with each further one.",
    )


class BenchBody(RequestBody):
    """A bench as it shall be."""

    name: BenchName = Field(description="Name of the bench, unique in its pool.")
    labels: Labels = Field(default_factory=dict, description="Labels that selectors match.")
    adapter: AdapterName = Field(description="Adapter that drives it, e.g. `local` or `mock`.")
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
    window_s: Window = Field(description="Length of the sliding window.")


class ApplyBenchesBody(RequestBody):
    """Benches to register, or to change where the name is known."""

    benches: list[BenchBody] = Field(min_length=1, max_length=BENCHES_PER_COMMAND_MAX)
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

    pool: PoolName | None = Field(default=None, description="Left out: the only pool there is.")
    selectors: list[SelectorText] = Field(
        default_factory=lambda: [""],
        min_length=1,
        max_length=GANG_SIZE_MAX,
        description="One for each bench wanted, e.g. `board=rpi4`; empty text: any bench.",
    )
    duration_s: Lease = Field(default=LEASE_S_DEFAULT, description="Length of the lease.")
    wait_timeout_s: Wait | None = Field(
        default=None, description="How long to wait for benches; null: for ever."
    )
    priority: Priority = Field(default=0, description="Higher first.")


class ExtendBody(RequestBody):
    """By how much the end of a lease moves."""

    duration_s: Lease = Field(description="By how many seconds.")


def _no_secrets(env: dict[str, str]) -> dict[str, str]:
    what, hint = secrets_fault(env)
    if what:
        raise PydanticCustomError("invalid_secret", "{text}", {"text": f"{what}; {hint}"})
    return env


class RunBody(RequestBody):
    """What is run on the bench, and its limits."""

    command: Command = Field(description="Program and arguments.")
    env: Annotated[Variables, AfterValidator(_no_secrets)] = Field(
        default_factory=dict,
        description="Environment variables to add; none with a secret: all who may look see them.",
    )
    timeout_s: Timeout = Field(
        default=TIMEOUT_S_DEFAULT, description="Longest time the command may take."
    )
    idle_timeout_s: Timeout | None = Field(
        default=None, description="Longest silence of the command; null: no limit."
    )
    junit: Globs = Field(default_factory=list, description="Globs of JUnit XML reports.")
    artifacts: Globs = Field(default_factory=list, description="Globs of files to keep.")
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

    pool: PoolName | None = Field(
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
    wait_timeout_s: Wait | None = Field(
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
