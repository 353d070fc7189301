"""`teo up` and `teo down`: the whole system on this machine, each role a process of its own.

Never decides anything about tests: it starts roles, keeps them running, and stops them.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.folders import PRIVATE_UMASK, private_folder
from cli.problems import BadUsage, Problem
from cli.serve import DATA_DIR, AllowDir, AllowEnv, Durable
from cli.session import Session
from events.topics import Durability

CONTEXT = "local"
STATE_FILE = "up.json"
READY_S_MAX = 180.0
STOP_S_MAX = 40.0
POLL_S = 0.1

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="TEO_DATA_DIR", help="Where everything is kept.")
]


def up(
    session: Session,
    data_dir: DataDir = DATA_DIR,
    port: Annotated[
        int | None, typer.Option("--port", help="Port of the API; else 8642, or a free one.")
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
    folder = data_dir.expanduser().absolute()
    os.umask(PRIVATE_UMASK)
    private_folder(folder)
    state = read_state(folder)
    if state is not None:
        raise BadUsage(
            f"it is up already at {state['server']} (process {state['pid']}, {folder})",
            next_step=f"stop it with `teo down --data-dir {folder}`",
        )
    # One user, on one machine: what is this user's own, and what it works on now, may be tested.
    own = [each for each in (Path.home(), Path.cwd()) if each != Path("/")]
    folders = [*(allow_dir or ()), *own]
    allowances = [("--allow-env", name) for name in allow_env or ()]
    allowances += [("--allow-dir", str(each)) for each in folders]
    if detach:
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


def down(session: Session, data_dir: DataDir = DATA_DIR) -> int:
    """Stop what `teo up` started; its data stays."""
    folder = data_dir.expanduser().absolute()
    state = read_state(folder)
    if state is None:
        session.screen.note(f"nothing is up in {folder}")
        session.screen.note("  another folder: --data-dir, or TEO_DATA_DIR")
        return 0
    with session.screen.spinner(f"stopping {state['server']}"):
        os.kill(state["pid"], 15)
        if not _wait(lambda: not is_alive(state["pid"]), STOP_S_MAX):
            raise Problem(
                f"process {state['pid']} did not end within {STOP_S_MAX:.0f} s",
                next_step=f"look at {folder / 'logs'}, or kill it: the data survives that",
                exit_code=3,
            )
    session.screen.note(f"stopped; the data is in {folder}")
    return 0


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the running `teo up` of this folder wrote; None if none runs."""
    try:
        state = json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and is_alive(int(state.get("pid", 0))) else None


def is_alive(pid: int) -> bool:
    """Return True if a `teo` process has this pid; a pid that was given anew is not ours."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    command = Path(f"/proc/{pid}/cmdline")
    try:
        words = command.read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists()
    return any(word in (b"up", b"demo") for word in words)


def _detached(
    session: Session,
    folder: Path,
    port: int | None,
    kafka: str,
    slots: int,
    durability: Durability,
    allowances: list[tuple[str, str]],
) -> int:
    command = [sys.executable, "-m", "cli.main", "up", "--data-dir", str(folder)]
    command += ["--kafka", kafka, "--slots", str(slots), "--durability", durability]
    command += ["--port", str(port)] if port is not None else []
    command += [word for flag in allowances for word in flag]
    (folder / "logs").mkdir(exist_ok=True)
    log = folder / "logs" / "up.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    with session.screen.spinner("starting") as spinner:

        def is_over() -> bool:
            lines = [
                line for line in log.read_text(errors="replace").splitlines() if line[:1] != " "
            ]
            spinner.update(lines[-1] if lines else "starting")
            return child.poll() is not None or read_state(folder) is not None

        _wait(is_over, READY_S_MAX)
    state = read_state(folder)
    if state is None:
        if child.poll() is None:
            child.terminate()
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise Problem(f"it did not come up:\n{tail}", next_step=f"see {log}", exit_code=3)
    note = session.screen.note
    stop = "teo down" if folder == DATA_DIR.absolute() else f"teo down --data-dir {folder}"
    note(f"up at {state['server']} (process {state['pid']}); `{stop}` stops it")
    note(f"  the dashboard is there too; its token is in {folder / 'token'}")
    note("  next: teo bench apply -f FILE, then teo run -- COMMAND")
    if session.flags.output == "json":
        session.screen.print(json.dumps(state))
    return 0


def _wait(is_over: Any, limit_s: float) -> bool:
    end_s = time.monotonic() + limit_s
    while not is_over():
        if time.monotonic() > end_s:
            return False
        time.sleep(POLL_S)
    return True
