"""`teo config`: which servers are known and which one is used; never shows a token."""

import sys
from typing import Annotated

import typer

from cli import contexts
from cli.client import Json
from cli.command import group
from cli.problems import BadUsage
from cli.render import Column, field, show_list, show_one
from cli.session import Session

ContextName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a context.")]

_COLUMNS: list[Column] = [
    ("CURRENT", lambda item: "*" if item["is_current"] else ""),
    ("NAME", field("name")),
    ("SERVER", field("server")),
    ("POOL", field("pool")),
    ("TOKEN", field("has_token")),
]
_ROWS: list[Column] = [
    ("context", field("context")),
    ("server", field("server")),
    ("pool", field("pool")),
    ("token", field("has_token")),
    ("file", field("file")),
]


def list_(session: Session) -> None:
    """List the contexts."""
    import os

    output = session.output()
    config = contexts.read()
    chosen = session.flags.context or os.environ.get("TEO_CONTEXT") or config.current
    found: list[Json] = [
        {
            "name": context.name,
            "server": context.server,
            "pool": context.pool,
            "has_token": contexts.read_token(context) is not None,
            "is_current": context.name == chosen,
        }
        for context in config.contexts.values()
    ]
    show_list(
        session.screen,
        found,
        _COLUMNS,
        output=output,
        empty="no contexts: `teo up` writes one, or `teo config set NAME --server URL`",
        name="name",
    )


def use(session: Session, name: ContextName) -> None:
    """Use this context from now on."""
    contexts.use(name)
    session.screen.note(f"using {name}")


def show(session: Session) -> None:
    """Show where commands go now, and from which file that is."""
    import os

    output = session.output()
    target = session.target()
    item: Json = {
        "context": target.context,
        "server": target.server,
        "pool": target.pool,
        "has_token": target.token is not None,
        "file": str(contexts.user_file(os.environ)),
    }
    show_one(session.screen, item, _ROWS, output=output, name="context")


def set_(
    session: Session,
    name: ContextName,
    pool: Annotated[str | None, typer.Option("--pool", help="Pool to use by default.")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input.")
    ] = False,
) -> None:
    """Write a context from --server and a token, and use it."""
    if session.flags.server is None:
        raise BadUsage("no server was given", next_step="add --server http://HOST:PORT")
    token = session.flags.token
    if token_stdin:
        token = sys.stdin.read(contexts.TOKEN_BYTES_MAX).strip() or None
    contexts.write_context(name, server=session.flags.server, token=token, pool=pool)
    session.screen.note(f"using {name}")


def remove(session: Session, name: ContextName) -> None:
    """Forget a context and its token."""
    if not contexts.clear(name):
        raise BadUsage(f"no context of yours is named {name!r}", next_step="see `teo config list`")
    session.screen.note(f"{name} is forgotten")


app = group(
    "Choose which server to talk to.",
    list=list_,
    contexts=list_,
    use=use,
    show=show,
    set=set_,
    remove=remove,
)
