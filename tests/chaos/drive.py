"""What the chaos lab runs on a bench: holds it, tells on disk that it does, and notices company.

Run as a script with the standard library only. The bench's lock is let go by the kernel alone,
when the last process of the test is gone: so two tests on one bench are seen without a gap.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TICK_S = 0.1


def main() -> int:
    """Drive the bench for some time; return the exit code asked for."""
    asked = _parse()
    names = {
        name: os.environ[f"TEO_{name.upper()}"] for name in ("execution_id", "attempt", "fence")
    }
    bench = f"{asked.pool}.{os.environ['TEO_BENCH']}"
    name = "{execution_id}.{attempt}.{fence}".format(**names)
    if asked.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lock = os.open(asked.marks / f"{bench}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, True)
    with (asked.marks / f"{name}.drive").open("a") as file:

        def mark(what: str, **more: object) -> None:
            fact = {"what": what, "at_s": time.monotonic(), "bench": bench, "pid": os.getpid()}
            file.write(json.dumps(fact | names | more) + "\n")
            file.flush()

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mark("clash", holder=os.pread(lock, 1_000, 0).decode())
        os.ftruncate(lock, 0)
        os.pwrite(lock, name.encode(), 0)
        mark("start")
        if asked.child:
            subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True)
        end_s = time.monotonic() + asked.seconds
        while time.monotonic() < end_s:
            time.sleep(TICK_S)
            print(f"driving {bench}", flush=True)
            mark("tick")
        if asked.artifact:
            content = os.urandom(asked.artifact)
            (Path(os.environ["TEO_ARTIFACTS_DIR"]) / "data.bin").write_bytes(content)
            mark("artifact", sha256=hashlib.sha256(content).hexdigest())
        mark("stop")
    return int(asked.exit)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("marks", type=Path)
    parser.add_argument("pool")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--artifact", type=int, default=0)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--child", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
