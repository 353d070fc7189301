"""Schedulers as operating system processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

END_S_MAX = 30.0


@contextmanager
def scheduler(kafka: str, prefix: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a scheduler until the block ends; then it is killed, if it is still there."""
    command = [sys.executable, "-m", "cli.main", "serve", "scheduler"]
    process = subprocess.Popen(
        [*command, "--kafka", kafka, "--topic-prefix", prefix, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(END_S_MAX)
