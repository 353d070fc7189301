"""Plays the script in a bench's config, with the clock of the running loop and nothing else.

It starts no process, writes no file and draws no chance, so it also runs under virtual time.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from adapters.contract import (
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Collected,
    Ended,
    Exit,
    Found,
    Handle,
    InvalidConfig,
    InvalidHandle,
    Lease,
    Line,
    OnLines,
)
from adapters.globs import check_globs
from adapters.limits import limit_reached
from adapters.mock.script import CASE_STATUSES, Script, Step, script_of, step_as_config, step_from

BATCH_LINES = 1000
_SIGTERM = 15
_OUTCOMES = {
    "passed": "",
    "failed": '<failure message="scripted"/>',
    "error": '<error message="scripted"/>',
    "skipped": '<skipped message="scripted"/>',
}


class MockAdapter:
    """The adapter `mock`. Config of a bench: see `adapters.mock.script.Script`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.held: set[Handle] = set()
        """What is provisioned and not torn down, for whoever tests with this adapter."""

    async def check(self, bench: Bench) -> None:
        """Play the step `check`; see the contract."""
        await _play(script_of(bench).check, attempt=1, name="check")

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        """Return a handle that carries the step `teardown`; see the contract."""
        fields = {
            "adapter": "mock",
            "bench": bench.name,
            "execution_id": attempt_id.execution_id,
            "attempt": attempt_id.number,
            "fence": attempt_id.fence,
            "teardown": step_as_config(script_of(bench).teardown),
        }
        return Handle(json.dumps(fields))

    async def provision(self, attempt: Attempt) -> Handle:
        """Play the step `provision`; see the contract."""
        script = script_of(attempt.bench)
        check_globs((*attempt.junit, *attempt.artifacts))
        handle = self.handle_for(attempt.id, attempt.bench)
        self.held.add(handle)
        await _play(script.provision, attempt=attempt.id.number, name="provision")
        return handle

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        """Play the step `run` within the attempt's limits; see the contract."""
        if handle not in self.held:
            raise AdapterError(f"{handle} is not provisioned", code="not_provisioned")
        script = script_of(attempt.bench)
        if script.cannot_start:
            raise CannotStart(f"cannot start {attempt.command[0]!r}: {script.cannot_start}")
        if _is_instant(script):
            await _play_run(script, attempt, on_lines)
            return _exit(script, attempt)
        ended = await _play_within_limits(script, attempt, on_lines, lease)
        return _exit(script, attempt) if ended == "exited" else Exit(ended=ended, signal=_SIGTERM)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        """Play the step `collect` and make what the script names; see the contract."""
        if handle not in self.held:
            raise AdapterError(f"{handle} is not provisioned", code="not_provisioned")
        script = script_of(attempt.bench)
        await _play(script.collect, attempt=attempt.id.number, name="collect")
        found = [
            Found(kind="artifact", path=path, size_bytes=size, data=_content(path, size))
            for path, size in script.artifacts.items()
        ]
        if script.junit:
            data = _report(attempt.bench.name, script)
            found.append(Found(kind="junit", path="junit.xml", size_bytes=len(data), data=data))
        return Collected(found=tuple(sorted(found, key=lambda file: (file.path, file.kind))))

    async def teardown(self, handle: Handle) -> None:
        """Play the step `teardown` the handle carries; see the contract."""
        try:
            fields = json.loads(handle)
            if fields["adapter"] != "mock":
                raise InvalidHandle(f"not a handle of the mock adapter: {handle[:200]!r}")
            attempt, step = int(fields["attempt"]), step_from(fields["teardown"])
        except (ValueError, TypeError, KeyError, AttributeError, InvalidConfig) as error:
            raise InvalidHandle(f"not a handle of the mock adapter: {handle[:200]!r}") from error
        await _play(step, attempt=attempt, name="teardown")
        self.held.discard(handle)

    async def leftovers(self) -> Sequence[Handle]:
        """Return nothing: what lives in memory does not outlive a worker."""
        return ()


async def _play(step: Step, *, attempt: int, name: str) -> None:
    if step.delay_s:
        await asyncio.sleep(step.delay_s)
    if step.goes_wrong(attempt):
        if step.hang:
            await asyncio.Event().wait()
        if step.fail:
            raise AdapterError(step.fail, code=f"{name}_failed", retriable=step.is_retriable)


async def _play_run(script: Script, attempt: Attempt, on_lines: OnLines) -> None:
    batch: list[Line] = []
    size_max = 1 if script.line_every_s else BATCH_LINES
    for number in range(1, script.lines + 1):
        is_stderr = script.stderr_every and number % script.stderr_every == 0
        text = f"line {number} ".ljust(script.line_bytes, "x")[: script.line_bytes]
        batch.append(Line("stderr" if is_stderr else "stdout", text))
        if len(batch) >= size_max or number == script.lines:
            await on_lines(batch)
            batch = []
        if script.line_every_s:
            await asyncio.sleep(script.line_every_s)
    await _play(script.run, attempt=attempt.id.number, name="run")


def _is_instant(script: Script) -> bool:
    """Return whether no limit can be reached, so that none need be watched."""
    return not (script.run.delay_s or script.run.hang or script.lines)


async def _play_within_limits(
    script: Script, attempt: Attempt, on_lines: OnLines, lease: Lease
) -> Ended:
    """Return which comes first: the end of the command, or one of the limits."""
    loop = asyncio.get_running_loop()
    heard_at: float | None = loop.time()

    async def hear(lines: Sequence[Line]) -> None:
        nonlocal heard_at
        heard_at = None
        try:
            await on_lines(lines)
        finally:
            heard_at = loop.time()

    playing = asyncio.create_task(_play_run(script, attempt, hear))
    limit = asyncio.create_task(
        limit_reached(attempt, silent_since=lambda: heard_at, lease_end=lambda: lease.until)
    )
    try:
        await asyncio.wait({playing, limit}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            return limit.result()
        playing.result()
        return "exited"
    finally:
        playing.cancel()
        limit.cancel()
        await asyncio.wait({playing, limit})


def _exit(script: Script, attempt: Attempt) -> Exit:
    if script.limit_exceeded:
        return Exit(ended="limit_exceeded", signal=_SIGTERM, detail=script.limit_exceeded)
    if script.signal is not None:
        return Exit(ended="exited", signal=script.signal)
    codes = script.exit_codes
    return Exit(ended="exited", code=codes[min(attempt.id.number, len(codes)) - 1])


def _content(path: str, size: int) -> bytes:
    seed = f"{path}\n".encode()
    return (seed * (size // len(seed) + 1))[:size]


def _report(suite: str, script: Script) -> bytes:
    cases = [
        f'<testcase classname="mock" name="{status} {number}" time="0">{_OUTCOMES[status]}'
        "</testcase>"
        for status in CASE_STATUSES
        for number in range(1, script.junit.get(status, 0) + 1)
    ]
    opening = f"<testsuites><testsuite name={quoteattr(suite)}>"
    return "".join([opening, *cases, "</testsuite></testsuites>"]).encode()
