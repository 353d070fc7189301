"""The query parameters of requests. Checks form only."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.limits import (
    CURSOR_CHARS_MAX,
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    LOG_LINES_LIMIT_MAX,
    LOG_TEXT_LINES_MAX,
    NUMBER_MAX,
    QUERY_CHARS_MAX,
)
from api.models.requests import SelectorText
from events.limits import REASON_CHARS_MAX

Text = Annotated[str, Field(max_length=QUERY_CHARS_MAX)]


def _words(text: str) -> str:
    return ",".join(word.strip() for word in text.split(",") if word.strip())


Words = Annotated[str, Field(max_length=QUERY_CHARS_MAX), AfterValidator(_words)]
"""One word or several, joined by commas: any of them."""

BENCH_STATES = ("offline", "idle", "held", "cleaning", "quarantined")
RESERVATION_STATUSES = ("queued", "granted", "released", "expired", "cancelled", "revoked")
EXECUTION_STATUSES = (
    "queued",
    "assigned",
    "provisioning",
    "running",
    "collecting",
    "tearing_down",
    "finished",
)
WORKER_STATES = ("online", "suspended", "draining", "lost", "gone")
LETTER_KINDS = ("record", "execution", "unknown")
LETTER_STATUSES = ("open", "replayed", "discarded")
VERDICTS = ("passed", "failed", "error", "timed_out", "cancelled")


def _among(known: Sequence[str]) -> AfterValidator:
    """Refuse words that nothing can ever match: a typing error is no empty list."""

    def check(text: str) -> str:
        for word in text.split(",") if text else ():
            if word not in known:
                found = {"word": repr(word), "known": ", ".join(known)}
                raise PydanticCustomError("invalid_query", "{word} is none of {known}", found)
        return text

    return AfterValidator(check)


class Query(BaseModel):
    """What every call takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_position: str | None = Field(
        default=None,
        description="`PARTITION:OFFSET` of `TEO-Position`: answer only from there on.",
        pattern=r"^\d{1,5}:\d{1,18}$",
    )


Number = Annotated[int, Field(ge=1, le=NUMBER_MAX)]
"""A number of an attempt or a line. Larger ones name nothing, and no table could be asked."""


class ListQuery(Query):
    """What every list takes."""

    limit: int = Field(default=LIST_LIMIT_DEFAULT, ge=1, le=LIST_LIMIT_MAX)
    cursor: str | None = Field(
        default=None, max_length=CURSOR_CHARS_MAX, description="`next_cursor` of the part before."
    )


class BenchesQuery(ListQuery):
    """Which benches."""

    pool: Text | None = None
    selector: SelectorText = ""
    state: Annotated[Words, _among(BENCH_STATES)] = Field(
        default="", description="One state or several, joined by commas."
    )


class WorkersQuery(ListQuery):
    """Which workers."""

    pool: Text | None = None
    state: Annotated[Words, _among(WORKER_STATES)] = Field(
        default="",
        description="`online`, `suspended`, `draining`, `lost`, `gone`; several joined by commas.",
    )


class ReservationsQuery(ListQuery):
    """Which reservations."""

    pool: Text | None = None
    status: Annotated[Words, _among(RESERVATION_STATUSES)] = Field(
        default="", description="One status or several, joined by commas."
    )
    owner: Text | None = None


class ExecutionsQuery(ListQuery):
    """Which executions."""

    pool: Text | None = None
    status: Annotated[Words, _among(EXECUTION_STATUSES)] = Field(
        default="", description="One status or several, joined by commas."
    )
    owner: Text | None = None
    verdict: Annotated[Words, _among(VERDICTS)] = Field(
        default="", description="One verdict or several, joined by commas."
    )


class ReservationQuery(Query):
    """How long to wait for a change of a reservation."""

    wait_s: float = Field(default=0, ge=0, description="Wait so long at most; cut to 60.")
    until: Literal["granted", "ended"] = "granted"


class ExecutionQuery(Query):
    """How long to wait for a change of an execution."""

    wait_s: float = Field(default=0, ge=0, description="Wait so long at most; cut to 60.")
    until: Literal["started", "finished"] = "finished"


class CancelQuery(Query):
    """Why an execution is cancelled."""

    reason: str = Field(default="", max_length=REASON_CHARS_MAX)


class AttemptQuery(Query):
    """Which attempt."""

    attempt: Number | None = Field(default=None, description="Left out: all of them.")


class ArtifactQuery(Query):
    """Which artifact, where two have the same path."""

    kind: Literal["artifact", "junit", "log"] | None = Field(
        default=None, description="Left out: the first there is, the test's own before the log."
    )


class CasesQuery(ListQuery):
    """Which test cases."""

    attempt: Number | None = Field(default=None, description="Left out: all of them.")


class LogsQuery(Query):
    """Which lines."""

    attempt: Number | None = Field(
        default=None, description="Left out: the last; when followed, the first and on."
    )
    since_line: Number = Field(default=1, description="Number of the first line wanted.")
    limit: int | None = Field(
        default=None,
        ge=1,
        le=LOG_TEXT_LINES_MAX,
        description=f"Most lines; as JSON {LOG_LINES_LIMIT_MAX} at most.",
    )


class DeadLettersQuery(ListQuery):
    """Which dead letters."""

    pool: Text | None = None
    kind: Annotated[Words, _among(LETTER_KINDS)] = Field(
        default="", description="`record`, `execution`, or both."
    )
    status: Annotated[Words, _among(LETTER_STATUSES)] = Field(
        default="", description="`open`, `replayed`, `discarded`; several joined by commas."
    )


class EventsQuery(Query):
    """Which events."""

    pool: Text | None = None
    type: Words = Field(default="", description="One type or several, joined by commas.")
    start: Literal["now", "beginning"] = Field(default="now", alias="from")
