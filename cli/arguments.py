"""Arguments that several verbs share, so that they read and fail alike everywhere."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated

import typer

from cli.problems import BadUsage
from events.shared import VERDICTS_BY

ENV_CHARS_MAX = 128 * 1024

ExecutionId = Annotated[str, typer.Argument(metavar="EXE", help="Id of an execution (exe-…).")]
ReservationId = Annotated[str, typer.Argument(metavar="RES", help="Id of a reservation (res-…).")]
Pool = Annotated[
    str | None, typer.Option("--pool", help="Pool of the benches; if not given, the only one.")
]
Selectors = Annotated[
    list[str] | None,
    typer.Option("--selector", "-l", help="Labels the bench must have, as in board=rpi4."),
]
Attempt = Annotated[int | None, typer.Option("--attempt", min=1, help="Number of the attempt.")]


def execution_id(text: str) -> str:
    """Return an execution's id. Raises `BadUsage` if `text` cannot be one."""
    return _checked_id(text, prefix="exe-", noun="an execution", lister="teo status")


def reservation_id(text: str) -> str:
    """Return a reservation's id. Raises `BadUsage` if `text` cannot be one."""
    return _checked_id(text, prefix="res-", noun="a reservation", lister="teo reservations")


def selector(parts: list[str] | None, *, name: str = "-l") -> str:
    """Return one selector that asks for all of `parts`. Raises `BadUsage` if it is malformed."""
    from events.errors import InvalidSelector
    from events.selector import parse

    if any(not part.strip() for part in parts or []):
        raise BadUsage(
            f"{name} is empty, which would take any bench",
            next_step=f"write {name} k=v, or leave {name} out if any bench will do",
        )
    joined = ",".join(part.strip() for part in parts or [])
    try:
        parse(joined)
    except InvalidSelector as error:
        what, _, hint = str(error).partition("; ")
        raise BadUsage(f"{name}: {what}", next_step=hint) from error
    return joined


def environment(pairs: list[str] | None) -> dict[str, str]:
    """Return the variables that `K=V` texts name. Raises `BadUsage` for anything else."""
    env: dict[str, str] = {}
    for pair in pairs or []:
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key or "\0" in pair:
            raise BadUsage(f"--env {pair!r} is no variable", next_step="write it like NAME=VALUE")
        env[key] = value
    refuse_secrets(env, name="--env")
    if sum(len(key) + len(value) for key, value in env.items()) > ENV_CHARS_MAX:
        raise BadUsage(
            f"--env: more than {ENV_CHARS_MAX} characters", next_step="hand a file over instead"
        )
    return env


def refuse_secrets(env: Mapping[str, str], *, name: str) -> None:
    """Raise `BadUsage` if a variable looks like a secret: what is submitted is none any more."""
    from events.secrets import secrets_fault

    what, hint = secrets_fault(env)
    if what:
        raise BadUsage(f"{name}: {what}", next_step=hint)


def size(text: str, *, name: str) -> int:
    """Return the bytes that `text` says. Raises `BadUsage` if it says none."""
    from adapters.sizes import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        what, _, hint = str(error).partition(": ")
        raise BadUsage(f"{name}: {what}", next_step=hint) from error


def globs(patterns: list[str] | None, *, name: str) -> list[str]:
    """Return globs that stay inside the workspace. Raises `BadUsage` for one that climbs out."""
    for pattern in patterns or []:
        path = PurePosixPath(pattern)
        if not pattern:
            raise BadUsage(f"{name} is empty", next_step="write a glob, as in reports/*.xml")
        if path.is_absolute() or ".." in path.parts:
            raise BadUsage(
                f"{name} {pattern!r} climbs out of the workspace",
                next_step="use a path relative to the workspace, as in reports/*.xml",
            )
    return list(patterns or [])


def verdict_by(text: str, *, name: str) -> str:
    """Return what decides a verdict. Raises `BadUsage` for a word that says nothing."""
    if text not in VERDICTS_BY:
        raise BadUsage(
            f"{name} {text!r} decides nothing", next_step=f"use one of {', '.join(VERDICTS_BY)}"
        )
    return text


def _checked_id(text: str, *, prefix: str, noun: str, lister: str) -> str:
    if not text.startswith(prefix) or not text[len(prefix) :].isalnum():
        raise BadUsage(
            f"{text!r} is no id of {noun}",
            next_step=f"such ids begin with {prefix}; see `{lister}`",
        )
    return text
