"""`teo down`: stops what `teo up` started; says what it ends, and asks before it ends tests."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client, Json, segment
from cli.contexts import Target
from cli.exit_codes import ExitCode
from cli.folders import word
from cli.local.occupant import LOCK_FILE, Occupant, occupant
from cli.problems import Problem
from cli.render import plain
from cli.serve import DATA_DIR
from cli.session import Session
from cli.up import STOP_S_MAX, DataDir, folder_of, read_state, wait_until
from cli.version import version

AT_WORK = "assigned,provisioning,running,collecting,tearing_down"
ASK_S_MAX = 3.0
"""An API that does not answer keeps nobody from stopping it."""
DRAIN_POLL_S = 1.0
SHOWN_MAX = 10


def down(
    session: Session,
    data_dir: DataDir = DATA_DIR,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, also when tests run.")
    ] = False,
    drain: Annotated[
        bool, typer.Option("--drain", help="Start nothing more, and wait for the tests that run.")
    ] = False,
) -> int:
    """Stop what `teo up` started; its data stays. Tests that run are ended, unless --drain."""
    folder = folder_of(data_dir)
    found = _occupant(folder)
    if found is None:
        session.screen.note(f"nothing is up in {folder}")
        session.screen.note("  another folder: --data-dir, or TEO_DATA_DIR")
        return 0
    state = read_state(folder)
    if state is not None:
        _care_for_tests(session, folder, str(state["server"]), is_sure=yes, is_drained=drain)
    what = str(state["server"]) if state else f"what runs in {folder}"
    with session.screen.spinner(f"stopping {what}"):
        _signal(found)
        # Who took the lock lets go of it a moment before its process is gone.
        if not wait_until(lambda: _occupant(folder) is None and found.is_left_over, STOP_S_MAX):
            left = _occupant(folder) or found
            raise Problem(
                f"not all has ended within {STOP_S_MAX:.0f} s: {left}",
                next_step=f"look at {folder / 'logs'}, or kill what "
                f"`fuser {word(folder / LOCK_FILE)}` names: the data survives that",
                exit_code=3,
            )
    session.screen.note(f"stopped; the data is in {folder}")
    return 0


def _occupant(folder: Path) -> Occupant | None:
    try:
        return occupant(folder)
    except OSError as error:
        raise Problem(
            f"{folder} cannot be looked into: {error.strerror}",
            next_step="stop it as the user who started it",
            exit_code=2,
        ) from error


def _signal(found: Occupant) -> None:
    """Tell the `teo up` itself, and nobody who has its pid now; what it left ends by itself."""
    try:
        if found.owner is not None:
            found.owner.send(signal.SIGTERM)
    except PermissionError as error:
        raise Problem(
            f"{found} is of another user", next_step="stop it as that user", exit_code=2
        ) from error


def _care_for_tests(
    session: Session, folder: Path, server: str, *, is_sure: bool, is_drained: bool
) -> None:
    """Say what would be ended; wait for it, or ask, as far as somebody is there to answer."""
    with _client(session, folder, server) as client:
        try:
            runs = _at_work(client)
            if is_drained:
                _drained(session, client, runs)
                return
        except Problem as problem:
            if is_drained:
                raise
            session.screen.note(f"it is not known whether tests run: {problem.what}")
            return
    if not runs:
        return
    count = f"{len(runs)} test run{'s' if len(runs) > 1 else ''}"
    session.screen.note(f"{count} at work, to be ended:")
    _show(session, runs)
    session.screen.note("  they are tried again after the next `teo up`, if their retries allow it")
    if is_sure or not session.screen.is_interactive:
        return
    try:
        is_sure = typer.confirm(f"end {count}?", err=True)
    except typer.Abort:
        is_sure = False
    if not is_sure:
        raise Problem(
            "nothing was stopped",
            next_step="`teo down --drain` waits for them",
            exit_code=ExitCode.CANCELLED,
        )


def _show(session: Session, runs: Sequence[Json]) -> None:
    for run in runs[:SHOWN_MAX]:
        command = " ".join(map(str, run.get("command") or ()))
        session.screen.note(
            f"  {plain(run['id'])}  {plain(run['status'])} on {plain(run.get('bench'))}, "
            f"of {plain(run.get('owner'))}: {plain(command)[:60]}"
        )
    if len(runs) > SHOWN_MAX:
        session.screen.note(f"  and {len(runs) - SHOWN_MAX} more")


def _drained(session: Session, client: Client, runs: Sequence[Json]) -> None:
    """Have the workers take nothing more, and return when nothing runs. Ctrl-C leaves it so."""
    workers = client.pages("/v1/workers", {"state": "online"})
    for each in workers:
        path = f"/v1/pools/{segment(each['pool'])}/workers/{segment(each['worker'])}/drain"
        client.write("POST", path, {"reason": "teo down --drain"})
    if runs:
        session.screen.note("nothing more is started; Ctrl-C leaves it drained, not stopped")
    with session.screen.spinner("waiting for what runs") as spinner:
        while runs := _at_work(client):
            spinner.update(f"waiting for {len(runs)}: {plain(runs[0]['id'])} …")
            time.sleep(DRAIN_POLL_S)


def _at_work(client: Client) -> list[Any]:
    return list(client.pages("/v1/executions", {"status": AT_WORK}))


def _client(session: Session, folder: Path, server: str) -> Client:
    """Return a client of this very folder's API, whatever context the user has chosen."""
    try:
        token = (folder / "token").read_text().strip() or None
    except (OSError, ValueError):
        token = None
    target = Target(server=server, token=token, context=None, pool=None)
    return Client(target, version=version(), note=session.screen.note, patience_s=ASK_S_MAX)
