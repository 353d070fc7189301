"""Kafka and the roles as processes under one parent: starts, watches, restarts, stops them.

No role outlives the parent: each holds the other end of a pipe and ends when it closes. Each holds
the lock of the folder too (`occupant.py`): so the next parent waits until the last of them ended.
"""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import structlog

from cli import contexts
from cli.direct import hush_kafka
from cli.exit_codes import ExitCode
from cli.folders import word
from cli.init import MEANING
from cli.local.cluster import ClusterConfig, EmbeddedKafka
from cli.local.keys import TOKEN_FILE, TOKENS_FILE, ready_token
from cli.local.occupant import STATE_FILE, take
from cli.local.properties import free_port, host, port_of
from cli.local.supervision import Held, RoleProcess, cancelled, keep_alive
from cli.problems import BadUsage, OutputLost, Problem
from events.durable import write_whole
from events.errors import TeoError, TopicRefused
from events.kafka.admin import ensure_topics, wait_for_broker
from events.kafka.durability import keep_facts
from events.topics import OUTPUT_BYTES_MAX, Durability, Topics, specs

PARTITIONS = 4
"""On one machine; a lab has 8."""
READY_S_MAX = 60.0
PROBE_S_MAX = 2.0
STATE_RETRY_S = 1.0
POLL_S = 0.1
EMBEDDED = "embedded"
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP too: of a terminal that is closed."""


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
    context_before: str | None = None
    """Where commands went before they were sent here; None: nowhere, or here."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how it came up."""
    _is_changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, text: str) -> None:
        """Say how it goes, if that can be said: a note that is lost stops nothing."""
        with suppress(OSError, ValueError, OutputLost):
            self.note(text)

    def run(self) -> int:
        """Start all, say so, and serve until SIGINT, SIGTERM, or the terminal is closed."""
        try:
            asyncio.run(self._run())
        except* TeoError as group:
            error = group.exceptions[0]
            where = f"--data-dir {word(self.config.folder)}"
            step = f"with {where} each of these verbs starts the Kafka of this folder"
            is_ours = isinstance(error, TopicRefused) and self.config.kafka == EMBEDDED
            raise Problem(
                str(error).replace(f"--kafka {self.bootstrap}", where),
                next_step=step if is_ours else "",
                exit_code=3,
            ) from group
        except* OSError as group:
            raise _not_to_be_used(self.config.folder, group.exceptions[0]) from group
        return 0

    async def _run(self) -> None:
        stop = asyncio.Event()
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # As under `nohup`.
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with AsyncExitStack() as exit_:
            start = asyncio.create_task(exit_.enter_async_context(self.started()))
            if not await _ends_first(start, stop):
                self.say("stopping; it was not up yet")
                start.cancel()
                await asyncio.wait({start})
                if start.cancelled():
                    return
            await start
            for text in self.notes:
                self.say(text)
            self.say(f"up: {self.server} (dashboard, API), Kafka {self.bootstrap}")
            self.say(f"  sign in there with the token in {self.config.folder / TOKEN_FILE}")
            self.say("  next: teo bench apply -f FILE, then teo run -- COMMAND; Ctrl-C stops all")
            await stop.wait()
            self.say("stopping")

    def started(self) -> "_Started":
        """Return the context in which everything runs."""
        return _Started(self)

    def has_pid(self, role: str, pid: int) -> None:
        """Remember a role's process; `up.json` follows."""
        self.pids[role] = pid
        self._is_changed.set()

    def write_state(self) -> None:
        """Write `up.json`, for `teo down`, `teo fsck` and whoever looks for a process."""
        state = {
            "pid": os.getpid(),
            "server": self.server,
            "kafka": self.bootstrap,
            "scheduler": self.scheduler,
            "data_dir": str(self.config.folder),
            "roles": self.pids,
            "context_before": self.context_before,
            "notes": self.notes,
        }
        write_whole(self.config.folder / STATE_FILE, json.dumps(state))

    async def keep_state(self) -> None:
        """Write `up.json` whenever a process is another; again, while that cannot be written."""
        while True:
            await self._is_changed.wait()
            self._is_changed.clear()
            try:
                self.write_state()
            except OSError:
                self._is_changed.set()
                await asyncio.sleep(STATE_RETRY_S)

    def take_context(self) -> None:
        """Send the commands of this user here; where they went before is said, and remembered."""
        name = self.config.context
        if name is None:
            return
        try:
            before = contexts.read().current
            contexts.write_context(name, server=self.server, token=self.token)
        except BadUsage as problem:
            token = f'"$(cat {word(self.config.folder / TOKEN_FILE)})"'
            self.notes += [
                f"no context was written: {problem.what}",
                f"  next: export TEO_SERVER={self.server} TEO_TOKEN={token}",
            ]
            return
        self.context_before = _told_before(self.config.folder) if before == name else before
        if self.context_before is not None:
            self.notes += [
                f"commands go here now, by the context {name!r}, and not to"
                f" {self.context_before!r} as before, until `teo down`",
                f"  next: `teo config use {self.context_before}` changes that",
            ]

    def tell_durability(self) -> None:
        """Say what a power cut takes, if it takes what was acknowledged."""
        if self.config.durability == "memory":
            self.notes.append(f"acknowledged facts are {MEANING['memory']}")

    def give_context_back(self) -> None:
        """Send commands where they went before, unless their user has changed that since."""
        name, before = self.config.context, self.context_before
        if name is None or before is None:
            return
        with suppress(BadUsage):
            if contexts.give_back(name, before, server=self.server):
                self.say(f"commands go to the context {before!r} again")


class _Started:
    """Starts the stack on enter, stops it on exit, in order."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._exit = AsyncExitStack()
        self._roles: list[RoleProcess] = []

    async def __aenter__(self) -> Stack:
        hush_kafka()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        try:
            await self._exit.__aenter__()
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self._stack

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        stack, config = self._stack, self._stack.config
        lock = await take(config.folder, stack.say)
        self._exit.callback(lock.close)
        _sweep(config.folder)
        stack.token = await ready_token(config.folder)
        port = port_of(config.port)
        await self._kafka()
        stack.server = f"http://{host}:{port}"
        health = free_port({port})
        stack.scheduler = f"http://{host}:{health}"
        parent, child = os.pipe()
        self._exit.callback(os.close, parent)
        self._exit.callback(os.close, child)
        self._exit.push_async_callback(self._stop_roles)
        held = Held(parent_fd=parent, lock_fd=lock.fileno())
        for name, arguments in _plan(config, port=port, health=health).items():
            role = RoleProcess(
                name,
                [*arguments, "--kafka", stack.bootstrap],
                log=config.folder / "logs" / f"{name}.log",
                held=held,
                note=stack.say,
                on_pid=stack.has_pid,
            )
            self._roles.append(role)
            await role.start()
        await _ready(f"{stack.scheduler}/readyz", "scheduler", self._roles)
        await _ready(f"{stack.server}/readyz", "api", self._roles)
        stack.take_context()
        stack.tell_durability()
        self._exit.callback(stack.give_context_back)
        stack.write_state()
        self._exit.callback(_forget_state, config.folder)
        self._exit.push_async_callback(cancelled, asyncio.create_task(stack.keep_state()))

    async def _kafka(self) -> None:
        config = self._stack.config
        if config.kafka == EMBEDDED:
            # Folders of before have topics without a limit of their own: they must be safe too.
            cluster = EmbeddedKafka(
                ClusterConfig(data_dir=config.folder / "kafka", bytes_max=OUTPUT_BYTES_MAX),
                on_progress=self._stack.say,
            )
            await self._exit.enter_async_context(cluster)
            broker = asyncio.create_task(keep_alive(cluster, self._stack.say))
            self._exit.push_async_callback(cancelled, broker)
            bootstrap = cluster.bootstrap
        else:
            bootstrap = config.kafka
            await wait_for_broker(bootstrap, wait_s=READY_S_MAX)
        self._stack.bootstrap = bootstrap
        topics = specs(Topics(), partitions=PARTITIONS, min_insync=1)
        await ensure_topics(bootstrap, topics, replication=1)
        is_ours = config.kafka == EMBEDDED
        await keep_facts(bootstrap, topics, config.durability, is_broker_ours=is_ours)

    async def _stop_roles(self) -> None:
        """Workers first: they hand in what they have; the API last."""
        for role in reversed(self._roles):
            await role.stop()
        self._roles.clear()


def _plan(config: StackConfig, *, port: int, health: int) -> dict[str, list[str]]:
    """Return the arguments of each role, in the order in which they start."""
    folder = config.folder
    artifacts = ["--artifacts", str(folder / "artifacts")]
    return {
        "scheduler": ["scheduler", "--health-port", str(health)],
        "api": ["api", "--port", str(port), "--tokens", str(folder / TOKENS_FILE),
                "--database", str(folder / "projections.sqlite"), *artifacts],
        "worker": ["worker", "--all-pools", "--id", "local", "--drain", "5s",
                   "--slots", str(config.slots), "--state-dir", str(folder / "worker"),
                   *artifacts, *_allowances(config)],
        "watcher": ["watcher"],
    }  # fmt: skip


async def _ends_first(start: "asyncio.Task[Stack]", stop: asyncio.Event) -> bool:
    """Wait for both; return True if it was `start` that came first."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({start, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return start.done()


async def _ready(url: str, name: str, roles: Sequence[RoleProcess]) -> None:
    """Return once a role says it is ready.

    Raises `Problem` if it is late, or if one of them has said that it must not go on.
    """
    end_s = time.monotonic() + READY_S_MAX
    # The loopback is asked without the proxy that the environment may name.
    async with httpx.AsyncClient(timeout=PROBE_S_MAX, trust_env=False) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            for role in roles:
                is_late = role.name == name and time.monotonic() > end_s
                if is_late or role.exit_code in (ExitCode.USAGE, ExitCode.INFRASTRUCTURE):
                    why = f"is not ready after {READY_S_MAX:.0f} s" if is_late else "cannot start"
                    raise Problem(
                        "\n".join([f"{role.name} {why}:", *role.tail()]),
                        next_step="see the logs in the data folder",
                        exit_code=3,
                    )
            await asyncio.sleep(POLL_S)


def _allowances(config: StackConfig) -> list[str]:
    """Return the flags of what benches may reach; never this lab's data, nor tokens of the CLI."""
    tokens = contexts.user_file(os.environ).parent / "tokens"
    flags = [("--allow-env", name) for name in config.allow_env]
    flags += [("--allow-dir", str(folder)) for folder in config.allow_dirs]
    flags += [("--deny-dir", str(folder)) for folder in (config.folder, tokens)]
    return [word for flag in flags for word in flag]


def _told_before(folder: Path) -> str | None:
    """Return where commands went before a `teo up` of this folder that was killed."""
    try:
        found = json.loads((folder / STATE_FILE).read_text())["context_before"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _forget_state(folder: Path) -> None:
    with suppress(OSError):
        (folder / STATE_FILE).unlink()


def _sweep(folder: Path) -> None:
    """Remove drafts of files that a killed process did not finish."""
    for draft in folder.glob(".*.new"):
        with suppress(OSError):
            draft.unlink()


def _not_to_be_used(folder: Path, error: BaseException) -> Problem:
    """Return what to say of a folder whose disk or rights do not allow it."""
    return Problem(
        f"{folder} cannot be used: {error}",
        next_step="see that its disk has room and that all in it is yours"
        f" (sudo chown -R $(id -un) {word(folder)}), or name another --data-dir",
        exit_code=3,
    )
