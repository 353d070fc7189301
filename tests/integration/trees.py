"""A test that spreads over many processes, and what is left of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.local.tree import started_at

DEADLINE_S = 15.0
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="the whole tree is known on Linux only"
)

# Writes its own pid and those of a child, a child in a session of its own, and a daemon that
# forked twice, left its session and folder, and cleared its environment; then all sleep.
TREE = """
DAEMON = '''
import os, sys, time
open(sys.argv[1], "a").write(f"daemon {os.getpid()}" + chr(10))
time.sleep(600)
'''
import os, sys, time
out = sys.argv[1]
def note(what):
    with open(out, "a") as file:
        file.write(f"{what} {os.getpid()}\\n")
if os.fork() == 0:
    note("child"); time.sleep(600)
if os.fork() == 0:
    os.setsid(); note("session"); time.sleep(600)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-c", DAEMON, out], {})
note("main")
print("started", flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Return the seconds it took for `condition` to hold."""
    began = time.monotonic()
    pause = 0.005
    while not condition():
        assert time.monotonic() - began < deadline_s, f"after {deadline_s} s not yet: {what}"
        os.sched_yield()
        subprocess.run(["sleep", str(pause)], check=True)
        pause = min(pause * 2, 0.05)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    return started_at(pid) is not None


def read_tree(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    return {name: int(pid) for name, pid in map(str.split, path.read_text().splitlines())}
