"""Roles of `teo` as operating system processes, and what they left on the log."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from events.log import Log, Partition, Record

END_S_MAX = 60.0
"""Generous: a machine under load."""


class Process:
    """One role, as an operating system process."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "serve", *arguments],
                stdout=output,
                stderr=output,
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

    def wait(self) -> int:
        return self._process.wait(END_S_MAX)


@contextmanager
def role(folder: Path, name: str, *arguments: str) -> Iterator[Process]:
    process = Process(folder / f"{name}.log", name, *arguments)
    try:
        yield process
    finally:
        process.kill()


def watcher(
    kafka: str, prefix: str, folder: Path, *arguments: str
) -> AbstractContextManager[Process]:
    return role(folder, "watcher", "--kafka", kafka, "--topic-prefix", prefix, *arguments)


async def read_all(log: Log, topic: str, partitions: int) -> list[Record]:
    records: list[Record] = []
    for number in range(partitions):
        partition = Partition(topic, number)
        end = (await log.ends([partition]))[partition]
        reader = await log.open_reader({partition: 0})
        try:
            while await reader.position(partition) < end:
                records += await reader.poll(records_max=5_000, wait_s=1.0)
        finally:
            await reader.close()
    return records
