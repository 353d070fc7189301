"""`teo up`: the whole system on this machine, each role a process of its own.

Never decides anything about tests: it starts roles, keeps them running, and stops them. What can be
known beforehand is said before anything is started.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exit_codes import of_signal
from cli.folders import PRIVATE_UMASK, home, private_folder, word
from cli.problems import BadUsage, Problem
from cli.serve import DATA_DIR, PORT_MAX, AllowDir, AllowEnv, Durable
from cli.session import Session
from cli.signals import Interrupted, Interrupts
from events.topics import Durability

READY_S_MAX = 180.0
STOP_S_MAX = 100.0
"""Four roles may take 15 s each, Kafka as long."""
POLL_S = 0.1
ROOM_BYTES_MIN = 64 * 1024 * 1024
TAIL_LINES = 15

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="TEO_DATA_DIR", help="Where everything is kept.")
]


def up(
    session: Session,
    data_dir: DataDir = DATA_DIR,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=PORT_MAX, help="Port of the API; else 8642, or a free one."
        ),
    ] = None,
    kafka: Annotated[
        str, typer.Option("--kafka", help="`embedded`, or HOST:PORT of a Kafka of your own.")
    ] = "embedded",
    slots: Annotated[int, typer.Option(min=1, help="Attempts at once, for each pool.")] = 8,
    durability: Durable = "disk",
    allow_env: AllowEnv = None,
    allow_dir: AllowDir = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is up; stop it with `teo down`.")
    ] = False,
) -> int:
    """Start everything on this machine: Kafka, scheduler, worker, watcher, API."""
    folder = folder_of(data_dir)
    os.umask(PRIVATE_UMASK)
    private_folder(folder)
    _check(folder, port)
    # One user, on one machine: what is this user's own, and what it works on now, may be tested.
    folders = [*(allow_dir or ()), *_own_folders()]
    if detach:
        allowances = [("--allow-env", name) for name in allow_env or ()]
        allowances += [("--allow-dir", str(each)) for each in folders]
        return _detached(session, folder, port, kafka, slots, durability, allowances)
    from cli.local.stack import Stack, StackConfig
    from cli.process import close_to_others

    config = StackConfig(
        folder=folder,
        port=port,
        kafka=kafka,
        slots=slots,
        durability=durability,
        allow_env=tuple(allow_env or ()),
        allow_dirs=tuple(folders),
    )
    close_to_others()
    return Stack(config, note=session.screen.note).run()


def folder_of(data_dir: Path) -> Path:
    """Return the data folder that is meant. Raises `BadUsage` for what can be none."""
    try:
        folder = data_dir.expanduser().absolute()
    except (OSError, RuntimeError) as error:  # The folder we are in is gone, or nobody has that ~.
        raise BadUsage(
            f"{data_dir} cannot be found: {error}", next_step="name a whole path, from / on"
        ) from error
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise BadUsage(
            f"{str(folder)!a} is no UTF-8, and Kafka could not find it again",
            next_step="name another folder with --data-dir",
        ) from error
    return folder


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the running `teo up` of this folder wrote; None if none runs, or none is up yet.

    The file alone says nothing: it stays after a power cut. Who holds the folder's lock wrote it.
    """
    from cli.local.occupant import STATE_FILE, occupant

    try:
        found = occupant(folder)
        if found is None or found.owner is None or found.is_left_over:
            return None
        state = json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("pid") == found.owner.pid else None


def wait_until(is_over: Callable[[], bool], limit_s: float) -> bool:
    """Return whether it is over within `limit_s`."""
    end_s = time.monotonic() + limit_s
    while not is_over():
        if time.monotonic() > end_s:
            return False
        time.sleep(POLL_S)
    return True


def down_command(folder: Path) -> str:
    """Return what stops the `teo up` of this folder."""
    return "teo down" if folder == DATA_DIR.absolute() else f"teo down --data-dir {word(folder)}"


def _check(folder: Path, port: int | None) -> None:
    """Refuse what would only come to light when Kafka runs. Raises `Problem`."""
    from cli.local.occupant import occupant
    from cli.local.properties import port_of

    try:
        found = occupant(folder)
        room_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise Problem(
            f"{folder} cannot be used: {error}",
            next_step="name another --data-dir, or make all in this one yours: "
            f"sudo chown -R $(id -un) {word(folder)}",
            exit_code=2,
        ) from error
    if found is not None and not found.is_left_over:
        state, pid = read_state(folder), found.owner and found.owner.pid
        is_up = f"it is up already at {state['server']}" if state else "it is being started already"
        raise BadUsage(
            f"{is_up} (process {pid}, {folder})",
            next_step=f"stop it with `{down_command(folder)}`",
        )
    if room_bytes < ROOM_BYTES_MIN:
        raise Problem(
            f"the disk of {folder} has {room_bytes >> 20} MiB left, and {ROOM_BYTES_MIN >> 20} "
            "are needed to start",
            next_step="free some, or name a folder on another disk with --data-dir",
            exit_code=3,
        )
    if found is None and port:  # What a killed one left may have the port still, and gives it back.
        port_of(port)


def _own_folders() -> list[Path]:
    try:
        own = [home(), Path.cwd()]
    except FileNotFoundError:
        own = [home()]
    return [each for each in own if each != Path("/")]


def _detached(
    session: Session,
    folder: Path,
    port: int | None,
    kafka: str,
    slots: int,
    durability: Durability,
    allowances: list[tuple[str, str]],
) -> int:
    from cli.local.supervision import tail

    command = [sys.executable, "-m", "cli.main", "up", "--data-dir", str(folder)]
    command += ["--kafka", kafka, "--slots", str(slots), "--durability", durability]
    command += ["--port", str(port)] if port is not None else []
    command += [word for flag in allowances for word in flag]
    log = folder / "logs" / "up.log"
    child, start = _spawn(command, log)
    state: dict[str, Any] | None = None
    with session.screen.spinner("starting") as spinner:

        def is_over() -> bool:
            nonlocal state
            lines = [each for each in tail(log, start=start) if not each.startswith((" ", "teo:"))]
            spinner.update(lines[-1] if lines else "starting")
            found = read_state(folder)
            state = found if found is not None and found["pid"] == child.pid else None
            return child.poll() is not None or state is not None

        try:
            with Interrupts():
                wait_until(is_over, READY_S_MAX)
        except Interrupted as told:
            spinner.update("stopping")
            _end(child)
            return of_signal(told.number)
    if state is None:
        _end(child)
        raise _not_up(tail(log, start=start), log, child.returncode)
    note = session.screen.note
    note(f"up at {state['server']} (process {state['pid']}); `{down_command(folder)}` stops it")
    note(f"  the dashboard is there too; its token is in {folder / 'token'}")
    note("  next: teo bench apply -f FILE, then teo run -- COMMAND")
    for text in state["notes"]:
        note(text)
    if session.flags.output == "json":
        session.screen.print(json.dumps(state))
    return 0


def _spawn(command: list[str], log: Path) -> "tuple[subprocess.Popen[bytes], int]":
    """Start it with its notes in `log`; return it, and where in the log they begin."""
    from cli.local.broker import rotate

    try:
        log.parent.mkdir(exist_ok=True)
        rotate(log)
        output = log.open("ab")
    except OSError as error:
        raise Problem(
            f"{log} cannot be written: {error.strerror}",
            next_step="make it yours or remove it, or name another --data-dir",
            exit_code=2,
        ) from error
    with output:
        start = output.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONSAFEPATH": "1"},  # We may be where another `events` is.
            start_new_session=True,
        )
    return child, start


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End one that did not come up, and return when it has ended."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()


def _not_up(lines: list[str], log: Path, code: int) -> Problem:
    """Return what the one that did not come up said last: its error, else the end of its log."""
    said = [number for number, line in enumerate(lines) if line.startswith("teo: ")]
    if not said:
        end = "\n".join(lines[-TAIL_LINES:]) or f"(it ended with {code}, and nothing is in its log)"
        return Problem(f"it did not come up:\n{end}", next_step=f"see {log}", exit_code=3)
    what, _, step = "\n".join(lines[said[-1] :]).removeprefix("teo: ").partition("\n  next: ")
    return Problem(what, next_step=step or f"see {log}", exit_code=code if code in (2, 3) else 3)
