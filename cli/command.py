"""Makes a plain function a verb: adds the global flags and turns errors into exit codes.

A verb is a function with typer annotations. If its first parameter is named `session`, it is
handed the `Session` of this run. It returns None or an exit code, and raises `Problem` for
whatever a person must know.
"""

import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Annotated, Any

import click
import typer

from cli.exit_codes import ExitCode, of_signal
from cli.problems import BadUsage, OutputLost, Problem
from cli.session import Flags, Session
from cli.version import version

SIGINT, SIGPIPE = 2, 13
TEXT_SHOWN = 20
"""Characters shown on either side of what cannot be encoded."""

COMMON: dict[str, Any] = {
    "server": Annotated[str | None, typer.Option("--server", help="Address of the API.")],
    "token": Annotated[
        str | None, typer.Option("--token", help="Token (better: TEO_TOKEN or a context).")
    ],
    "context": Annotated[str | None, typer.Option("--context", help="Named context to use.")],
    "output": Annotated[
        str | None, typer.Option("--output", "-o", help="table, json, yaml or name.")
    ],
    "quiet": Annotated[
        bool | None, typer.Option("--quiet", "-q", help="No notes on stderr.", show_default=False)
    ],
    "verbose": Annotated[
        bool | None, typer.Option("--verbose", "-v", help="Show requests.", show_default=False)
    ],
    "no_color": Annotated[
        bool | None, typer.Option("--no-color", help="No colours.", show_default=False)
    ],
}


def bind(function: Callable[..., Any]) -> Callable[..., None]:
    """Return `function` as typer wants it, with the global flags added to its own."""
    own = inspect.signature(function, eval_str=True).parameters
    takes_session = "session" in own
    added = {name: kind for name, kind in COMMON.items() if name not in own}

    @wraps(function)
    def verb(ctx: typer.Context, **given: Any) -> None:
        flags = Flags(**{name: given.pop(name) for name in added})
        earlier = ctx.find_root().obj
        session = Session(flags.over(earlier) if isinstance(earlier, Flags) else flags)
        run(session, (lambda: function(session, **given) if takes_session else function(**given)))

    describe(
        verb,
        [
            parameter("ctx", typer.Context),
            *[item.replace(kind=_KEYWORD) for item in own.values() if item.name != "session"],
            *[parameter(name, kind, default=None) for name, kind in added.items()],
        ],
    )
    return verb


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def parameter(name: str, kind: Any, *, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """Return a parameter for `describe`."""
    return inspect.Parameter(name, _KEYWORD, annotation=kind, default=default)


def describe(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Give `function` the signature that typer reads."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {item.name: item.annotation for item in parameters}


def group(help_text: str, **verbs: Callable[..., Any]) -> typer.Typer:
    """Return a noun with its verbs, as in `teo bench list`."""
    app = typer.Typer(
        help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )

    @app.callback()
    def noun() -> None:
        """Keep a noun with one verb a group."""

    noun.__doc__ = help_text
    for name, function in verbs.items():
        app.command(name)(bind(function))
    return app


def run(session: Session, verb: Callable[[], Any]) -> None:
    """Run a verb, show what goes wrong, and exit with its code."""
    try:
        code = verb()
        session.screen.flush()
    except Problem as problem:
        code = problem.exit_code
        show(session, problem)
        if isinstance(problem, OutputLost):
            _let_go_of_output()
    except BrokenPipeError:
        # Who read our output has gone, as in `teo logs EXE | head`: that is no error of anybody.
        _let_go_of_output()
        code = of_signal(SIGPIPE)
    except KeyboardInterrupt:
        code = of_signal(SIGINT)
    except (typer.Exit, click.ClickException, click.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - no traceback, and never the code of failed tests.
        fault = ours(error)
        code = fault.exit_code
        show(session, fault)
    raise typer.Exit(int(code or 0))


def ours(error: Exception) -> Problem:
    """Return what to say of an error that nobody foresaw; all that is known of it goes to a file.

    Text that no encoding takes came with the arguments, or with the environment.
    """
    if isinstance(error, UnicodeEncodeError):
        start = max(0, error.start - TEXT_SHOWN)
        text = error.object[start : error.end + TEXT_SHOWN].encode(errors="backslashreplace")
        return BadUsage(
            f"{text.decode()!r} has bytes that are no UTF-8",
            next_step="teo sends text only: name files and arguments in UTF-8, or put raw bytes "
            "into a file that the test reads",
        )
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    try:
        descriptor, name = tempfile.mkstemp(prefix="teo-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"teo {version()}, Python {sys.version}\n{' '.join(sys.argv[:2])}\n\n")
            file.write("".join(traceback.format_exception(error)))
    except OSError as refused:
        name = f"(no file could be written: {refused})"
    return Problem(
        f"a fault of teo itself: {what}",
        next_step=f"report it with {name}",
        exit_code=ExitCode.OURS,
    )


def _let_go_of_output() -> None:
    """Point standard output to nowhere, so that nothing is tried again when Python ends."""
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(session: Session, problem: Problem) -> None:
    """Say on stderr what went wrong, and the next step."""
    screen = session.screen
    screen.complain(f"{screen.paint('teo:', 'red', is_error=True)} {problem.what}")
    if problem.next_step:
        screen.complain(f"  next: {problem.next_step}")
