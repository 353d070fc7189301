"""Roles of `teo` as operating system processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

END_S_MAX = 60.0
"""Generous: a machine under load."""


FAST = {"TEO_FAUST_BROKER_SESSION_TIMEOUT": "2.5", "TEO_FAUST_BROKER_HEARTBEAT_INTERVAL": "0.8"}
"""A watcher that was killed is missed after 2.5 s: more kills in a test's time."""


class Process:
    """One role, as an operating system process."""

    def __init__(self, log: Path, *arguments: str, module: str = "cli.main") -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "serve", *arguments],
                stdout=output,
                stderr=output,
                env={**os.environ, **FAST},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Kill -9, and wait."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(30)

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and how long the end took."""
        began_s = time.monotonic()
        self._process.terminate()
        code = self._process.wait(END_S_MAX)
        return code, time.monotonic() - began_s

    def told(self, event: str) -> int:
        """Return how many lines of its log name `event`; a log may be that of several lives."""
        return self.log.read_text().count(f'"{event}"')

    def wait(self) -> int:
        return self._process.wait(END_S_MAX)


@contextmanager
def role(folder: Path, name: str, *arguments: str, module: str = "cli.main") -> Iterator[Process]:
    """Run a role of `teo`, or of a `module` that starts a changed one, until the block ends."""
    process = Process(folder / f"{name}.log", name, *arguments, module=module)
    try:
        yield process
    finally:
        process.kill()


def watcher(
    kafka: str, prefix: str, folder: Path, *arguments: str
) -> AbstractContextManager[Process]:
    return role(folder, "watcher", "--kafka", kafka, "--topic-prefix", prefix, *arguments)
