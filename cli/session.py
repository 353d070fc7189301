"""One run of `teo`: its global flags, its screen and its client; never a state that outlives it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import cast

import typer

from cli.arguments import checked_pool
from cli.client import Client
from cli.contexts import Target, resolve
from cli.durations import parse
from cli.exit_codes import ExitCode
from cli.patience import COMMAND_PATIENCE_S, FOLLOW_PATIENCE_S
from cli.problems import BadUsage, Problem
from cli.render import Format, Screen
from cli.version import version

RESOURCE_FORMATS: tuple[Format, ...] = ("table", "json", "yaml", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags every verb knows, before or after the verb; the later one wins."""

    server: str | None = None
    token: str | None = None
    context: str | None = None
    output: str | None = None
    quiet: bool | None = None
    verbose: bool | None = None
    no_color: bool | None = None

    def over(self, earlier: "Flags") -> "Flags":
        """Return these flags, with those of `earlier` where nothing was given."""
        given = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) is not None
        }
        return replace(earlier, **given)


class Session:
    """What a verb is handed."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.screen = Screen(is_quiet=bool(flags.quiet), has_colour=not flags.no_color)

    def output(
        self, allowed: Sequence[Format] = RESOURCE_FORMATS, *, default: Format = "table"
    ) -> Format:
        """Return the format asked for. Raises `BadUsage` if the verb does not have it."""
        asked = self.flags.output
        if asked is None:
            return default
        if asked not in allowed:
            raise BadUsage(
                f"-o {asked}: this verb does not have that format",
                next_step=f"use one of {', '.join(allowed)}",
            )
        return cast(Format, asked)

    def target(self) -> Target:
        """Return where this command goes."""
        return resolve(server=self.flags.server, token=self.flags.token, context=self.flags.context)

    def client(self) -> Client:
        """Return a client of the server; the caller closes it."""
        return Client(
            self.target(),
            version=version(),
            note=self.screen.note,
            trace=self.screen.complain if self.flags.verbose else None,
            patience_s=_limit_s("TEO_RETRY", COMMAND_PATIENCE_S),
            follow_patience_s=_limit_s("TEO_RECONNECT", FOLLOW_PATIENCE_S),
        )

    def confirm(self, question: str) -> None:
        """Ask a person. Raises `Problem` unless they say yes, `BadUsage` if nobody is there."""
        if not self.screen.is_interactive:
            raise BadUsage(
                f"nobody is there to answer: {question}", next_step="give -y if you are sure"
            )
        try:
            is_sure = typer.confirm(question, err=True)
        except typer.Abort:
            is_sure = False
        if not is_sure:
            raise Problem("nothing was changed", exit_code=ExitCode.CANCELLED)

    def pool(self, client: Client, asked: str | None) -> str:
        """Return the pool asked for, else the context's, else the only one the server has."""
        if named := asked or self.target().pool:
            return checked_pool(named)
        names = sorted(str(item["pool"]) for item in client.pages("/v1/pools", has_limit=False))
        if len(names) == 1:
            return names[0]
        if not names:
            raise BadUsage(
                "the server has no pool yet", next_step="add benches with `teo bench apply -f FILE`"
            )
        raise BadUsage(
            f"the server has {len(names)} pools: {', '.join(names)}",
            next_step="say which with --pool or TEO_POOL",
        )


def _limit_s(name: str, default_s: float) -> float:
    """Return the duration that an environment variable says, else the default."""
    text = os.environ.get(name)
    return parse(text, name=name) if text else default_s
