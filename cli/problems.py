"""Errors a person sees: what went wrong, the next step, and the exit code; never a traceback."""

import json
from collections.abc import Mapping
from typing import Any

from cli.exit_codes import ExitCode, of_problem

_FIELD_ERRORS_SHOWN_MAX = 10


class Problem(Exception):
    """Raised when a command cannot go on; `show` says so on stderr."""

    def __init__(self, what: str, *, next_step: str = "", exit_code: int) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.exit_code = int(exit_code)

    def __str__(self) -> str:
        return f"{self.what}; {self.next_step}" if self.next_step else self.what


class BadUsage(Problem):
    """Raised when what was typed, or a file that was given, cannot be understood."""

    def __init__(self, what: str, *, next_step: str = "") -> None:
        super().__init__(what, next_step=next_step, exit_code=ExitCode.USAGE)


class OutputLost(Problem):
    """Raised when standard output takes nothing any more, and its reader has not just left."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the output cannot be written: {error.strerror or error}",
            next_step="free the disk it goes to, or send it elsewhere",
            exit_code=ExitCode.OUTPUT_LOST,
        )


class Unreachable(Problem):
    """Raised when the server gave no answer that helps within the time allowed."""

    def __init__(self, server: str, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"cannot reach the server at {server}: {reason}",
            next_step="start one with `teo up`, or name another with --server or TEO_SERVER",
            exit_code=ExitCode.UNREACHABLE,
        )
        self.retry_after_s = retry_after_s


class Unavailable(Unreachable):
    """Raised when the server was reached, and cannot serve this within the time allowed."""

    def __init__(
        self, server: str, reason: str, *, next_step: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(server, reason, retry_after_s=retry_after_s)
        self.what = f"the server at {server} cannot serve this now: {reason}"
        self.next_step = next_step


class Refused(Problem):
    """Raised when the server answered with a problem; `code` is the machine's word for it."""

    def __init__(self, *, status: int, code: str, what: str, next_step: str = "") -> None:
        super().__init__(what, next_step=next_step, exit_code=of_problem(status, code))
        self.status = status
        self.code = code


def from_answer(status: int, body: bytes, *, server: str) -> Refused:
    """Return the refusal that an answer with an error status says, problem+json or not."""
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    problem: Mapping[str, Any] = parsed if isinstance(parsed, dict) else {}
    code = str(problem.get("code") or "")
    said = problem.get("detail") or problem.get("title")
    if not said and status in (404, 405, 501):  # What an API says of a path has words.
        step = "is it a teo server? name another with --server or TEO_SERVER"
        return Refused(status=status, code="", what=f"{server} answered {status}", next_step=step)
    what = str(said or f"the server answered {status}")
    if details := _field_errors(problem.get("errors")):
        return Refused(status=status, code=code, what="the server refuses " + details)
    # The server names the next step after the last semicolon when it knows one.
    told, _, hint = what.rpartition("; ")
    if told and status != 401:
        return Refused(status=status, code=code, what=told, next_step=hint)
    return Refused(status=status, code=code, what=what, next_step=_next_step(status, code, server))


def unavailable(
    refused: Refused, *, server: str, is_write: bool, retry_after_s: float | None = None
) -> Unavailable:
    """Return what an answer says that another try may change: 429 or 5xx."""
    return Unavailable(
        server,
        f"{refused.status} {refused.what}",
        next_step=_way_out(refused, server=server, is_write=is_write),
        retry_after_s=retry_after_s,
    )


def no_answer(server: str, *, after_s: float, is_write: bool) -> Unavailable:
    """Return that the server was reached and said nothing, as when the log it asks is stuck."""
    step = _see_readyz(server)
    return Unavailable(
        server,
        f"no answer within {after_s:.0f}s",
        next_step=f"{step}; {_LOOK_FIRST}" if is_write else step,
    )


def no_pool(pool: str) -> Problem:
    """Return that the server has no pool of that name."""
    return Problem(
        f"there is no pool {pool}",
        next_step="`teo pool list` shows the pools there are",
        exit_code=ExitCode.NO_BENCH_OR_DENIED,
    )


def undecided(server: str, command_id: str, *, after_s: float) -> Unavailable:
    """Return that a command was taken, and that nobody has decided it."""
    return Unavailable(
        server,
        f"command {command_id} has no outcome after {after_s:.0f}s",
        next_step=f"see that a scheduler runs; {_LOOK_FIRST}",
    )


def set_aside(command_id: str, outcome: Mapping[str, Any]) -> Refused:
    """Return that a command could not be decided, and changed nothing."""
    is_too_big = outcome.get("code") == "record_too_big"
    return Refused(
        status=413 if is_too_big else 409,
        code="command_too_big" if is_too_big else "command_set_aside",
        what=f"command {command_id} could not be decided: {outcome.get('reason')}",
        next_step="ask for less at once" if is_too_big else _SEE_ASIDE,
    )


_SEE_ASIDE = "see `clock` of /readyz and `teo dlq list`, then ask anew"
_LOOK_FIRST = (
    "before you send it again, look with `teo status` or `teo bench list` whether it was taken"
)


def _way_out(refused: Refused, *, server: str, is_write: bool) -> str:
    match refused.status, refused.code:
        case _, "replay_undecided" | "letter_not_put_back":
            return "repeat the replay: it counts once"
        case 429, _:
            return refused.next_step or "try again later"
        case 500, _ if refused.next_step:
            step = refused.next_step
        case _:
            step = _see_readyz(server)
    return f"{step}; {_LOOK_FIRST}" if is_write else step


def _see_readyz(server: str) -> str:
    return (
        f"see which part is away with `curl {server}/readyz`; if it is the log, start Kafka again"
    )


def _field_errors(errors: object) -> str:
    """Return what is wrong with each field; the first is all that the detail says."""
    if not isinstance(errors, list):
        return ""
    shown = [
        f"{_location(error.get('loc'))}: {error.get('msg')}"
        for error in errors[:_FIELD_ERRORS_SHOWN_MAX]
        if isinstance(error, dict)
    ]
    return "\n  ".join(shown)


def _location(loc: object) -> str:
    return ".".join(map(str, loc)) if isinstance(loc, list) else str(loc)


def _next_step(status: int, code: str, server: str) -> str:
    if status == 401:
        return f"give the token of {server} with --token or TEO_TOKEN, or run `teo up` again"
    match code:
        case "no_matching_bench":
            return "see which benches there are with `teo bench list`"
        case "no_such_pool":
            return "see which pools there are with `teo pool list`"
        case "no_such_execution":
            return "see which executions there are with `teo status`"
        case "no_such_reservation":
            return "see which reservations there are with `teo reservations`"
        case "reservation_ended":
            return "make a new one with `teo reserve`"
        case "execution_finished":
            return "see how it ended with `teo status`"
        case "no_such_bench":
            return "see which benches there are with `teo bench list`"
        case _:
            return "see `teo whoami` for who you are here" if status == 403 else ""
