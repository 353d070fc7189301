"""The command `teo`: finds the verb and loads only its module; must never do a verb's work itself.

To add a verb, add a line to `VERBS` and put its file in `cli/`. The attribute named there is
- a function with typer annotations (`def up(session: Session, data_dir: Annotated[...])`): it gets
  the global flags for free, and the `Session` if its first parameter is named `session`; or
- a `typer.Typer` for a noun with verbs (`cli.command.group` makes one from functions).
It returns None or an exit code and raises `cli.problems.Problem` for what a person must know.
A module is imported only when its verb runs: it may be heavy, but `teo --version` is not.
"""

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a verb is, and its one line of help."""

    module: str
    attribute: str
    help: str
    is_command_runner: bool = False


VERBS: dict[str, Verb] = {
    "run": Verb("cli.run", "run", "Run a command on a bench and follow it.", True),
    "status": Verb("cli.executions", "status", "Show one execution, or the latest ones."),
    "logs": Verb("cli.logs", "logs", "Print or follow the log of an execution."),
    "cancel": Verb("cli.executions", "cancel", "Cancel an execution."),
    "wait": Verb("cli.executions", "wait", "Wait for an execution; exit as `run` would."),
    "results": Verb("cli.results", "results", "Show the test cases of an execution."),
    "artifacts": Verb("cli.artifacts", "artifacts", "List or download what an execution kept."),
    "reserve": Verb("cli.reservations", "reserve", "Reserve a bench, or several at once."),
    "extend": Verb("cli.reservations", "extend", "Make a reservation's lease longer."),
    "release": Verb("cli.reservations", "release", "Give a reservation's benches back."),
    "reservations": Verb("cli.reservations", "reservations", "List reservations."),
    "queue": Verb("cli.queue", "queue", "Show what waits for a bench, in order."),
    "bench": Verb("cli.benches", "app", "Add, show, quarantine and restore benches."),
    "pool": Verb("cli.pools", "app", "Show pools."),
    "worker": Verb("cli.workers", "app", "Show and drain workers."),
    "dlq": Verb("cli.dlq", "app", "Look at dead letters, put them back, discard them."),
    "events": Verb("cli.events", "app", "Follow what happens."),
    "config": Verb("cli.config", "app", "Choose which server to talk to."),
    "whoami": Verb("cli.whoami", "whoami", "Show who the server takes you for."),
    "up": Verb("cli.up", "up", "Start everything on this machine."),
    "down": Verb("cli.down", "down", "Stop what `teo up` started."),
    "serve": Verb("cli.serve", "app", "Run one role: api, scheduler, worker or watcher."),
    "init": Verb("cli.init", "init", "Create the topics of an environment."),
    "demo": Verb("cli.demo", "demo", "Run real tests on virtual benches, and show it."),
    "fsck": Verb("cli.fsck", "fsck", "Replay the journal and check that everything agrees."),
    "journal": Verb("cli.journal", "app", "Go on when the journal is not what it was."),
    "projections": Verb("cli.projections", "app", "Rebuild read models from the log."),
}


def main() -> None:
    """Run `teo` with the arguments of this process, and exit."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from cli.version import version

        print(f"teo {version()}")
        return
    if "TEO_ENVIRONMENT_FD" in os.environ:  # Before anything reads it.
        from cli.local.handover import take_over

        take_over()
    from cli.root import build

    build(VERBS)(prog_name="teo")


if __name__ == "__main__":
    main()
