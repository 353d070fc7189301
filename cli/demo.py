"""`teo demo`: real tests on virtual benches through a real Kafka, step by step, in two minutes.

Uses the commands that a person would type, in a folder of its own that is removed at the end.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.problems import Problem
from cli.session import Session

EXAMPLE = Path("docs/examples/virtual_ecu")
POOL = "demo"
BUGGY, FIXED = "1.0.0", "1.1.0"
RESULTS_WAIT_S = 20.0


def demo(
    session: Session,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data folder and say where it is.")
    ] = False,
) -> int:
    """Run real tests on virtual benches, and show it."""
    example = Path(__file__).resolve().parent.parent / EXAMPLE
    if not example.is_dir():
        raise Problem(
            f"the example is missing: {example}",
            next_step="run the demo from a checkout: make demo",
            exit_code=2,
        )
    folder = Path(tempfile.mkdtemp(prefix="teo-demo-"))
    try:
        return asyncio.run(_Demo(session, folder, example).play())
    finally:
        if keep:
            session.screen.note(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    def __init__(self, session: Session, folder: Path, example: Path) -> None:
        self._screen = session.screen
        self._folder = folder
        self._example = example
        self._env: dict[str, str] = {}
        self._number = 0

    async def play(self) -> int:
        from cli.local.stack import Stack, StackConfig

        started_s = time.monotonic()
        self._title("Start Kafka, scheduler, worker and API on this machine")
        config = StackConfig(folder=self._folder, port=0, context=None, allow_dirs=(self._example,))
        stack = Stack(config, note=self._say)
        async with stack.started():
            self._env = {
                **os.environ,
                "TEO_SERVER": stack.server,
                "TEO_TOKEN": stack.token,
                "TEO_CONFIG": str(self._folder / "config.yaml"),
            }
            self._env.pop("TEO_CONTEXT", None)
            self._say(f"dashboard: {stack.server}")
            codes = await self._scenes(stack.bootstrap)
        took_s = time.monotonic() - started_s
        self._title(f"Everything is stopped; the demo took {took_s:.0f} s")
        if codes != (1, 0):
            raise Problem(
                f"the demo's runs ended with {codes}, not (1, 0)",
                next_step="run it again with --keep and look at the logs",
                exit_code=3,
            )
        return 0

    async def _scenes(self, bootstrap: str) -> tuple[int, int]:
        self._title("Register two virtual benches")
        file = self._folder / "bench.yaml"
        file.write_text(json.dumps(self._benches()))
        await self._teo("bench", "apply", "-f", str(file))
        await self._teo("bench", "list")

        self._title("Reserve a bench by its labels, look at it, give it back")
        reserve = ["reserve", "-l", "ecu=gateway", "--duration", "5m"]
        self._show_command([*reserve, "-o", "name"])
        reservation = (await self._teo(*reserve, "-o", "name", capture=True)).strip()
        self._screen.print(reservation)
        await self._teo("bench", "list")
        await self._teo("release", reservation)

        self._title(f"Test firmware {BUGGY}: it has a bug")
        buggy = await self._run(BUGGY)
        self._say(f"`teo run` ended with exit code {buggy}")
        execution = await self._latest()
        await self._teo("results", execution)
        self._title(f"Test firmware {FIXED}: the bug is mended")
        fixed = await self._run(FIXED)
        self._say(f"`teo run` ended with exit code {fixed}")
        execution = await self._latest()
        await self._teo("results", execution)
        await self._teo("artifacts", execution)

        self._title("What CI hears: teo.results, read by a consumer that knows only Kafka and Avro")
        for line in await results(bootstrap, count=2):
            self._screen.print(f"  {line}")
        return buggy, fixed

    def _benches(self) -> dict[str, Any]:
        return {
            "pool": POOL,
            "benches": [
                {
                    "name": f"ecu-{number}",
                    "labels": {"ecu": "gateway", "bus": "can", "bench": str(number)},
                    "adapter": "local",
                    "config": {"directory": str(self._example)},
                }
                for number in (1, 2)
            ],
        }

    async def _run(self, firmware: str) -> int:
        return await self._teo_code(
            *("run", "-l", "ecu=gateway", "--env", f"ECU_FIRMWARE={firmware}"),
            *("--junit", "junit.xml", "--timeout", "1m", "--"),
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--color=no",
                "-p",
                "no:cacheprovider",
                "--junitxml=junit.xml",
            ),
        )

    async def _latest(self) -> str:
        listed = json.loads(await self._teo("status", "-o", "json", capture=True))
        items = listed["items"] if isinstance(listed, dict) else listed
        return str(max(items, key=lambda item: item["created_at"])["id"])

    def _title(self, text: str) -> None:
        self._number += 1
        self._screen.print("")
        self._screen.print(self._screen.paint(f"{self._number}. {text}", "bold"))

    def _say(self, text: str) -> None:
        self._screen.print(f"  {text}")

    async def _teo(self, *arguments: str, capture: bool = False) -> str:
        code, output = await self._spawn(arguments, capture=capture, is_shown=not capture)
        if code != 0:
            raise Problem(f"`teo {' '.join(arguments)}` ended with {code}", exit_code=3)
        return output

    async def _teo_code(self, *arguments: str) -> int:
        return (await self._spawn(arguments, capture=False, is_shown=True))[0]

    def _show_command(self, arguments: Sequence[str]) -> None:
        words = ("python" if word == sys.executable else word for word in arguments)
        self._screen.print(self._screen.paint(f"  $ teo {' '.join(words)}", "cyan"))
        self._screen.out.flush()

    async def _spawn(
        self, arguments: Sequence[str], *, capture: bool, is_shown: bool
    ) -> tuple[int, str]:
        if is_shown:
            self._show_command(arguments)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *arguments),
            env=self._env | {"PYTHONSAFEPATH": "1"},
            stdout=subprocess.PIPE if capture else None,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, (output or b"").decode()


async def results(bootstrap: str, *, count: int) -> list[str]:
    """Return `count` results as a consumer of its own reads them from the topic."""
    from events.codec import decode
    from events.kafka.log import KafkaLog
    from events.log import Partition
    from events.topics import Topics

    topic = Topics().results
    found: list[tuple[datetime, str]] = []
    async with KafkaLog(bootstrap, client_id="teo-demo-ci") as log:
        every = [Partition(topic, number) for number in range(await log.partitions(topic))]
        reader = await log.open_reader(await log.begins(every))
        end_s = time.monotonic() + RESULTS_WAIT_S
        try:
            while len(found) < count and time.monotonic() < end_s:
                for record in await reader.poll(records_max=100, wait_s=0.5):
                    result = decode(record.value)
                    totals = result.totals
                    line = (
                        f"{result.execution_id}  {result.verdict:<7} {result.code:<13} "
                        f"passed {totals.passed}, failed {totals.failed}  on {result.bench}"
                    )
                    found.append((record.timestamp, line))
        finally:
            await reader.close()
    return [line for _, line in sorted(found)]
