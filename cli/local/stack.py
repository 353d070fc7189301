"""Kafka and the roles as processes under one parent: starts, watches, restarts, stops them.

No role outlives the parent: each holds the other end of a pipe and ends when it closes.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import structlog

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from cli.contexts import user_file, write_context
from cli.direct import hush_kafka
from cli.local import BrokerFailed
from cli.local.cluster import ClusterConfig, EmbeddedKafka
from cli.local.properties import free_port, is_free
from cli.problems import Problem
from cli.process import PARENT_FD
from events.durable import OWN_MODE, write_whole
from events.errors import TeoError, TopicRefused
from events.kafka.admin import ensure_topics, wait_for_broker
from events.kafka.durability import keep_facts
from events.topics import OUTPUT_BYTES_MAX, Durability, Topics, specs

DEFAULT_PORT = 8642
PARTITIONS = 4
"""On one machine; a lab has 8."""
READY_S_MAX = 60.0
RESTART_WAIT_S = 1.0
BROKER_PAUSE_S_MAX = 60.0
"""Between two starts of a Kafka that does not come up, as on a full disk."""
STOP_S_MAX = 15.0
POLL_S = 0.1
NODE = 1
"""The embedded Kafka's only one."""
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """What to start. `port` None: the default one, or any free one if that is taken."""

    folder: Path
    port: int | None = None
    kafka: str = EMBEDDED
    slots: int = 8
    durability: Durability = "disk"
    allow_env: tuple[str, ...] = ()
    allow_dirs: tuple[Path, ...] = ()
    context: str | None = "local"
    """Context of the CLI that is written; None: none."""


@dataclass(slots=True)
class Stack:
    """One running system. `run` serves until a signal; `started` is for who drives it."""

    config: StackConfig
    note: Callable[[str], None]
    server: str = ""
    scheduler: str = ""
    """Where the scheduler answers `/readyz` and `/state`."""
    token: str = ""
    bootstrap: str = ""
    pids: dict[str, int] = field(default_factory=dict)
    is_up: bool = False
    """True from the moment all roles answer until they are stopped."""

    def run(self) -> int:
        """Start all, say so, and serve until SIGINT or SIGTERM."""
        try:
            asyncio.run(self._run())
        except* TeoError as group:
            error = group.exceptions[0]
            step = f"with --data-dir {self.config.folder} a verb starts the Kafka of this folder"
            raise Problem(
                str(error),
                next_step=step if isinstance(error, TopicRefused) else "",
                exit_code=3,
            ) from group
        return 0

    async def _run(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with self.started():
            self.note(f"up: {self.server} (dashboard, API), Kafka {self.bootstrap}")
            self.note(f"  sign in there with the token in {self.config.folder / 'token'}")
            self.note("  next: teo bench apply -f FILE, then teo run -- COMMAND; Ctrl-C stops all")
            await stop.wait()
            self.note("stopping")

    def started(self) -> "_Started":
        """Return the context in which everything runs."""
        return _Started(self)

    def write_state(self) -> None:
        """Write `up.json`, for `teo down`, `teo fsck` and whoever looks for a process."""
        if not self.is_up:
            return
        state = {
            "pid": os.getpid(),
            "server": self.server,
            "kafka": self.bootstrap,
            "scheduler": self.scheduler,
            "data_dir": str(self.config.folder),
            "roles": self.pids,
        }
        write_whole(self.config.folder / "up.json", json.dumps(state))


class _Started:
    """Starts the stack on enter, stops it on exit, in order."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._exit = AsyncExitStack()
        self._roles: list[_Role] = []

    async def __aenter__(self) -> Stack:
        stack, config = self._stack, self._stack.config
        hush_kafka()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        try:
            await self._exit.__aenter__()
            stack.bootstrap = await self._kafka()
            stack.token = _token(config.folder)
            port = _port(config.port)
            stack.server = f"http://127.0.0.1:{port}"
            parent, child = os.pipe()
            os.set_inheritable(parent, True)
            self._exit.callback(os.close, child)
            health = free_port({port})
            stack.scheduler = f"http://127.0.0.1:{health}"
            plan = {
                "scheduler": ["scheduler", "--health-port", str(health)],
                "api": ["api", "--port", str(port), "--tokens", str(_tokens(config.folder)),
                        "--database", str(config.folder / "projections.sqlite"),
                        "--artifacts", str(config.folder / "artifacts")],
                "worker": ["worker", "--all-pools", "--id", "local", "--drain", "5s",
                           "--slots", str(config.slots),
                           "--state-dir", str(config.folder / "worker"),
                           "--artifacts", str(config.folder / "artifacts"),
                           *_allowances(config)],
                "watcher": ["watcher"],
            }  # fmt: skip
            for name, arguments in plan.items():
                role = _Role(name, [*arguments, "--kafka", stack.bootstrap], parent, stack)
                self._roles.append(role)
                await role.start()
            os.close(parent)
            self._exit.push_async_callback(self._stop_roles)
            await _ready(f"{stack.scheduler}/readyz", "scheduler", self._roles)
            await _ready(f"{stack.server}/readyz", "api", self._roles)
            if config.context is not None:
                write_context(config.context, server=stack.server, token=stack.token)
            stack.is_up = True
            stack.write_state()
        except BaseException:
            await self._stop_roles()
            await self._exit.aclose()
            raise
        return stack

    async def __aexit__(self, *_: object) -> None:
        self._stack.is_up = False
        with suppress(FileNotFoundError):
            (self._stack.config.folder / "up.json").unlink()
        await self._exit.aclose()

    async def _kafka(self) -> str:
        config = self._stack.config
        if config.kafka == EMBEDDED:
            # Folders of before have topics without a limit of their own: they must be safe too.
            cluster = EmbeddedKafka(
                ClusterConfig(data_dir=config.folder / "kafka", bytes_max=OUTPUT_BYTES_MAX),
                on_progress=self._stack.note,
            )
            await self._exit.enter_async_context(cluster)
            broker = asyncio.create_task(keep_alive(cluster, self._stack.note))
            self._exit.push_async_callback(_cancelled, broker)
            bootstrap = cluster.bootstrap
        else:
            bootstrap = config.kafka
            await wait_for_broker(bootstrap, wait_s=READY_S_MAX)
        topics = specs(Topics(), partitions=PARTITIONS, min_insync=1)
        await ensure_topics(bootstrap, topics, replication=1)
        is_ours = config.kafka == EMBEDDED
        await keep_facts(bootstrap, topics, config.durability, is_broker_ours=is_ours)
        return bootstrap

    async def _stop_roles(self) -> None:
        """Workers first: they hand in what they have; the API last."""
        for role in reversed(self._roles):
            await role.stop()
        self._roles.clear()


async def keep_alive(cluster: EmbeddedKafka, note: Callable[[str], None]) -> None:
    """Start the embedded Kafka again whenever it ends by itself: same ports, same data."""
    pause_s = RESTART_WAIT_S
    while True:
        if cluster.is_alive(NODE):
            await asyncio.sleep(POLL_S)
            continue
        note(f"Kafka ended; starting it again in {pause_s:.0f} s")
        await asyncio.sleep(pause_s)
        try:
            await cluster.restart(NODE)
        except (BrokerFailed, OSError) as error:
            note(f"Kafka did not start: {error}")
            pause_s = min(2 * pause_s, BROKER_PAUSE_S_MAX)
        else:
            note("Kafka is up again")
            pause_s = RESTART_WAIT_S


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class _Role:
    """One role's process, started again whenever it ends by itself."""

    def __init__(self, name: str, arguments: list[str], parent_fd: int, stack: Stack) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "cli.main", "serve", *arguments]
        self._parent_fd = os.dup(parent_fd)
        os.set_inheritable(self._parent_fd, True)
        self._stack = stack
        self._log = stack.config.folder / "logs" / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and watch over it."""
        self._stack.note(f"starting {self.name}")
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        environ: Mapping[str, str] = {**os.environ, PARENT_FD: str(self._parent_fd)}
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environ,
                pass_fds=[self._parent_fd],
                start_new_session=True,
            )
        self._stack.pids[self.name] = self._process.pid
        self._stack.write_state()

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self._stack.note(f"{self.name} ended with {code}; starting it again ({self._log})")
            await asyncio.sleep(RESTART_WAIT_S)
            await self._spawn()

    def tail(self) -> str:
        """Return the last lines of its log."""
        with suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
        return ""

    async def stop(self) -> None:
        """End it in good order; kill it if it does not end in time."""
        if self._watch is not None:
            await _cancelled(self._watch)
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_S_MAX):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        with suppress(OSError):
            os.close(self._parent_fd)


async def _ready(url: str, name: str, roles: list[_Role]) -> None:
    end_s = time.monotonic() + READY_S_MAX
    async with httpx.AsyncClient(timeout=2.0) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            if time.monotonic() > end_s:
                tail = next(role.tail() for role in roles if role.name == name)
                raise Problem(
                    f"{name} is not ready after {READY_S_MAX:.0f} s:\n{tail}",
                    next_step="see the logs in the data folder",
                    exit_code=3,
                )
            await asyncio.sleep(POLL_S)


def _allowances(config: StackConfig) -> list[str]:
    """Return the flags of what benches may reach; never this lab's data, nor tokens of the CLI."""
    tokens = user_file(os.environ).parent / "tokens"
    flags = [("--allow-env", name) for name in config.allow_env]
    flags += [("--allow-dir", str(folder)) for folder in config.allow_dirs]
    flags += [("--deny-dir", str(folder)) for folder in (config.folder, tokens)]
    return [word for flag in flags for word in flag]


def _tokens(folder: Path) -> Path:
    return folder / "tokens.json"


def _token(folder: Path) -> str:
    """Return the token of this folder's user, made once; only its user can read it."""
    kept = folder / "token"
    if kept.exists() and _tokens(folder).exists():
        return kept.read_text().strip()
    token = new_token()
    actor = os.environ.get("USER") or "local"
    write_token_file(_tokens(folder), {token: Principal(actor=actor, roles=("admin",))})
    write_whole(kept, token + "\n", mode=OWN_MODE)
    return token


def _port(asked: int | None) -> int:
    if asked is not None:
        if asked == 0:
            return free_port()
        if not is_free(asked):
            raise Problem(f"port {asked} is taken", next_step="choose another --port", exit_code=2)
        return asked
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else free_port()
