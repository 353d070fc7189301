"""`make chaos MINUTES=… [SEED=…]`: break a real lab for some minutes, then judge it."""

import argparse
import asyncio
import logging
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.chaos.lab import ChaosFailed, Plan, run


def main() -> int:
    """Run; return 0 if nothing was violated."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="kept; a failed run's always is")
    asked = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="teo-chaos-"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    started_s = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - started_s:7.1f} s  {text}", flush=True)

    note(f"SEED={seed}, {asked.minutes:g} minutes, in {folder}")
    # What was started and mounted is ended and unmounted, however this is told to stop.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        report = asyncio.run(run(Plan(folder=folder, seed=seed, minutes=asked.minutes), note))
    except KeyboardInterrupt:
        note("stopped before its end")
        return 130
    except ChaosFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    print(report.text())
    if asked.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
