"""`make power CUTS=… [SEED=…]`: cut the power of a lab again and again, then judge it."""

import argparse
import asyncio
import logging
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.power.disk import NoDisk
from tests.power.lab import Plan, run

FIRST_S, LAST_S = 0.0, 20.0


def main() -> int:
    """Run; return 0 if nothing was lost, or where no power can be cut."""
    parser = argparse.ArgumentParser(prog="make power")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--durability", choices=("disk", "memory"), default="disk")
    asked = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix="teo-power-"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    started_s = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - started_s:7.1f} s  {text}", flush=True)

    dice = random.Random(f"plan/{seed}")
    cuts = [
        None if dice.random() < 0.3 else dice.uniform(FIRST_S, LAST_S) for _ in range(asked.cuts)
    ]
    note(f"SEED={seed}, {asked.cuts} cuts, in {folder}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(folder=folder, seed=seed, cuts_s=cuts, durability=asked.durability)
    try:
        report = asyncio.run(run(plan, note))
    except NoDisk as error:
        note(f"not run: {error}")
        return 0
    except KeyboardInterrupt:
        note("stopped before its end")
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed and the place are said.
        print(f"SEED={seed} (evidence in {folder}): {error!r}", file=sys.stderr)
        return 1
    print(report.text())
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
