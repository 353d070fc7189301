"""Runs attempts on the local adapter, in this process."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.contract import (
    NO_LIMITS,
    Allowed,
    Attempt,
    AttemptId,
    Bench,
    Collected,
    Exit,
    Handle,
    Lease,
    Limits,
    Line,
)
from adapters.local import LocalAdapter


class Local:
    """Runs attempts in this process."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = tmp_path / "state"
        self.adapter = LocalAdapter(self.state)
        self.adapter.allow(Allowed(env=("*",), folders=(Path("/"),)))
        self.lines: list[Line] = []
        self.collected = Collected()
        self.handle = Handle("")
        self.heard: asyncio.Event | None = None
        self.execution_id = f"exe_{uuid.uuid4().hex}"
        """Its own: what is left of an attempt is found by it, machine-wide."""
        self._number = 0

    def attempt(
        self,
        *command: str,
        config: Mapping[str, object] | None = None,
        timeout_s: float = 60.0,
        idle_timeout_s: float | None = None,
        grace_s: float = 5.0,
        env: Mapping[str, str] | None = None,
        artifacts: tuple[str, ...] = (),
        junit: tuple[str, ...] = (),
        limits: Limits = NO_LIMITS,
    ) -> Attempt:
        self._number += 1
        return Attempt(
            id=AttemptId(execution_id=self.execution_id, number=self._number, fence=3),
            bench=Bench(name="bench-1", config=config or {}),
            command=command,
            env=env or {},
            timeout_s=timeout_s,
            idle_timeout_s=idle_timeout_s,
            grace_s=grace_s,
            artifacts=artifacts,
            junit=junit,
            limits=limits,
        )

    async def on_lines(self, lines: Sequence[Line]) -> None:
        self.lines.extend(lines)
        if self.heard is not None:
            self.heard.set()

    async def run(self, attempt: Attempt) -> Exit:
        lease = Lease(until=asyncio.get_running_loop().time() + 60)
        self.handle = await self.adapter.provision(attempt)
        try:
            exit_ = await self.adapter.run(
                attempt, self.handle, on_lines=self.on_lines, lease=lease
            )
            self.collected = await self.adapter.collect(attempt, self.handle)
            return exit_
        finally:
            await self.adapter.teardown(self.handle)

    def play(self, attempt: Attempt) -> Exit:
        return asyncio.run(self.run(attempt))

    def text(self, stream: str = "stdout") -> list[str]:
        return [line.text for line in self.lines if line.stream == stream]
