"""The root of the command tree: knows every verb's name, loads only the one that runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.command import COMMON, bind, describe, parameter
from cli.exit_codes import ExitCode
from cli.session import Flags
from cli.version import version

if TYPE_CHECKING:
    from cli.main import Verb

HELP = """Reserve test benches, run tests on them, and keep the evidence.

Exit codes of `run` and `wait`: 0 passed, 1 tests failed, 2 usage, 3 infrastructure error,
4 cancelled, 5 timed out, 6 no matching bench or denied, 7 wait timed out, 8 lease lost,
9 server unreachable, 10 authentication, 128+n signal.
"""


def build(verbs: Mapping[str, "Verb"]) -> Any:
    """Return the command `teo`; call it with the arguments."""

    class Root(TyperGroup):
        """Shows every verb from the table alone, and loads a verb when it is to run."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for name, verb in verbs.items():
                self.add_command(TyperCommand(name=name, help=verb.help, callback=None))

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, command, rest = super().resolve_command(ctx, args)
            if isinstance(name, str) and name in verbs:
                command = _load(name, verbs[name])
            return name, command, rest

    app = typer.Typer(
        name="teo",
        cls=Root,
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return get_command(app)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"teo {version()}")
        raise typer.Exit


def _root(ctx: typer.Context, **given: Any) -> None:
    given.pop("show_version")
    ctx.obj = Flags(**given)


_VERSION = Annotated[
    bool,
    typer.Option(
        "--version", "-V", help="Show the version.", is_eager=True, callback=_show_version
    ),
]
describe(
    _root,
    [
        parameter("ctx", typer.Context),
        *[parameter(name, kind, default=None) for name, kind in COMMON.items()],
        parameter("show_version", _VERSION, default=False),
    ],
)


def _load(name: str, verb: "Verb") -> Any:
    try:
        loaded = getattr(import_module(verb.module), verb.attribute)
    except ModuleNotFoundError as error:
        if error.name != verb.module:
            raise
        typer.echo(
            f"teo: `teo {name}` is not part of this installation ({verb.module} is missing)\n"
            "  next: install test-execution-orchestrator whole, or use another verb",
            err=True,
        )
        raise typer.Exit(ExitCode.USAGE) from error
    if isinstance(loaded, typer.Typer):
        command = get_command(loaded)
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(
            name,
            help=loaded.__doc__ or verb.help,
            context_settings={"allow_interspersed_args": False} if verb.is_command_runner else {},
        )(bind(loaded))
        command = get_command(app)
    command.name = name
    _name_values(command)
    return command


_VALUES = {
    "event_type": "TYPE",
    "worker_id": "ID",
    "artifact": "GLOB",
    "artifacts": "DIR",
    "attempt": "N",
    "context": "NAME",
    "count": "N",
    "data_dir": "DIR",
    "database": "FILE",
    "drain": "DURATION",
    "duration": "DURATION",
    "env": "NAME=VALUE",
    "file": "FILE",
    "health_port": "N",
    "idle_timeout": "DURATION",
    "junit": "GLOB",
    "kafka": "HOST:PORT",
    "limit": "N",
    "output": "FORMAT",
    "partitions": "N",
    "port": "N",
    "priority": "N",
    "replication": "N",
    "reservation": "RES",
    "retries": "N",
    "selectors": "SELECTOR",
    "server": "URL",
    "since_line": "N",
    "slots": "N",
    "start": "now|beginning",
    "state_dir": "DIR",
    "timeout": "DURATION",
    "tokens": "FILE",
    "topic_prefix": "PREFIX",
    "wait_timeout": "DURATION",
}


def _name_values(command: Any) -> None:
    """Let the help say what a flag takes in the reader's words, not in those of Python's types."""
    for each in getattr(command, "commands", {}).values():
        _name_values(each)
    for option in command.params:
        is_named = option.metavar is not None or option.param_type_name != "option"
        if not is_named and not option.is_flag:
            option.metavar = _VALUES.get(option.name, option.name.upper())
