"""Many clients over HTTP that ask, repeat and fail over; what they were told is the history."""

import asyncio
import random
import sys
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

DRIVE = Path(__file__).with_name("drive.py")
ANSWER_S_MAX = 20.0
RETRY_S = (0.1, 1.0)
REPEAT_ODDS = 0.1
WAIT_ENDS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """One answer that has a command's id: the system's word about it."""

    command_id: str
    ask: str
    status: int
    code: str
    """Of the problem; empty if it was accepted."""
    key: str = ""
    """What tells a repeat, with who asked and where."""
    actor: str = ""
    pool: str = ""
    """The pool that the request named; empty: none."""


@dataclass(slots=True)
class History:
    """What the clients saw."""

    acks: list[Ack] = field(default_factory=list)
    executions: set[str] = field(default_factory=set)
    retries: Counter[str] = field(default_factory=Counter)
    """Why an ask was sent again."""
    asked: int = 0
    unanswered: int = 0


class Client:
    """One user. Sends each ask until it is answered, now to one API, now to the other."""

    def __init__(
        self, name: str, token: str, servers: Sequence[str], history: History, seed: int
    ) -> None:
        self.name = name
        self.history = history
        self._servers = list(servers)
        self._dice = random.Random(f"client/{seed}/{name}")
        self._http = httpx.AsyncClient(
            timeout=ANSWER_S_MAX, headers={"Authorization": f"Bearer {token}"}
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str = ""
    ) -> Any:
        """Send a command until it is answered; return the answer's JSON, None if refused."""
        key = key or str(uuid.uuid4())
        self.history.asked += 1
        self.history.unanswered += 1
        answer = await self._until_answered(method, path, body, key)
        self.history.unanswered -= 1
        pool = str((body or {}).get("pool", ""))
        self._note(method, path, answer, key, pool)
        if self._dice.random() < REPEAT_ODDS:
            again = await self._until_answered(method, path, body, key)
            self._note(method, path, again, key, pool)
        return answer.json() if answer.is_success else None

    async def get(self, path: str) -> Any:
        """Return what is there, or None; failures are tried again."""
        answer = await self._until_answered("GET", path, None, None)
        return answer.json() if answer.is_success else None

    async def _until_answered(
        self, method: str, path: str, body: Mapping[str, Any] | None, key: str | None
    ) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            server = self._dice.choice(self._servers)
            try:
                answer = await self._http.request(method, server + path, json=body, headers=headers)
            except httpx.HTTPError as error:
                self.history.retries[type(error).__name__] += 1
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                self.history.retries[str(answer.status_code)] += 1
            await asyncio.sleep(self._dice.uniform(*RETRY_S))

    def _note(self, method: str, path: str, answer: httpx.Response, key: str, pool: str) -> None:
        command_id = answer.headers.get("TEO-Command-Id", "")
        if command_id:
            code = "" if answer.is_success else str(answer.json().get("code", ""))
            self.history.acks.append(
                Ack(
                    command_id=command_id,
                    ask=f"{method} {path}",
                    status=answer.status_code,
                    code=code,
                    key=key,
                    actor=self.name,
                    pool=pool,
                )
            )

    async def subject(self, answer: Any) -> str | None:
        """Return the id of what an ask made; waits for the outcome after a 202."""
        if answer is None:
            return None
        if "command_id" not in answer:
            return str(answer["id"])
        for _ in range(60):
            outcome = await self.get(f"/v1/commands/{answer['command_id']}")
            if outcome and outcome.get("subject_id"):
                return str(outcome["subject_id"]) if outcome["status"] == "accepted" else None
            await asyncio.sleep(0.5)
        return None


class User:
    """Runs tests and reserves benches, as its dice say, until told to stop."""

    def __init__(
        self, client: Client, *, pools: Sequence[str], marks: Path, stop: asyncio.Event, seed: int
    ) -> None:
        self._client = client
        self._pools = list(pools)
        self._marks = marks
        self._stop = stop
        self._dice = random.Random(f"user/{seed}/{client.name}")

    async def work(self) -> None:
        """Do one thing after the other."""
        while not self._stop.is_set():
            kind = self._dice.choices(
                [self._run_local, self._run_mock, self._reserve, self._run_everywhere],
                weights=[5, 3, 3, 1],
            )[0]
            await kind(self._dice.choice(self._pools))
            await self._pause(self._dice.uniform(0.0, 0.5))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _run_local(self, pool: str, **more: Any) -> None:
        dice = self._dice
        seconds = dice.choice([0.2, 0.5, 1.0, 3.0])
        timeout_s = 30.0
        words = [sys.executable, "-I", "-S", str(DRIVE), str(self._marks), pool]
        fate = dice.choices(
            ["plain", "fails", "artifact", "overtime", "cancelled", "child"],
            weights=[4, 1, 3, 1, 2, 1],
        )[0]
        if fate == "fails":
            words += ["--exit", "3"]
        elif fate == "artifact":
            words += ["--artifact", str(dice.choice([1, 10_000, 1_000_000]))]
        elif fate == "overtime":
            seconds, timeout_s = 60.0, 1.5
        elif fate == "cancelled":
            seconds = 60.0
            words += ["--stubborn"]
        elif fate == "child":
            words += ["--child"]
        body = {
            "pool": pool,
            "selector": "kind=local",
            "retries": 3,
            "run": {
                "command": [*words, "--seconds", str(seconds)],
                "timeout_s": timeout_s,
                "artifacts": ["artifacts/*"],
                "env": {"TEO_CHAOS": str(self._marks)},
            },
            **more,
        }
        await self._run(body, is_cancelled=fate == "cancelled")

    async def _run_mock(self, pool: str) -> None:
        kind = self._dice.choice(["mock", "mock", "flaky"])
        body = {
            "pool": pool,
            "selector": f"kind={kind}",
            "retries": 3,
            "run": {"command": ["play"], "timeout_s": 30.0},
        }
        await self._run(body, is_cancelled=self._dice.random() < 0.1)

    async def _run_everywhere(self, _: str) -> None:
        """Send one key to all pools at the same moment: as many runs, each with its outcome."""
        key = str(uuid.uuid4())
        run = {"command": ["play"], "timeout_s": 30.0}
        bodies = [
            {"pool": pool, "selector": "kind=mock", "retries": 3, "run": run}
            for pool in self._pools
        ]
        await asyncio.gather(*(self._run(body, is_cancelled=False, key=key) for body in bodies))

    async def _run(self, body: Mapping[str, Any], *, is_cancelled: bool, key: str = "") -> None:
        client = self._client
        answer = await client.ask("POST", "/v1/executions", body, key=key)
        execution_id = await client.subject(answer)
        if execution_id is None:
            return
        client.history.executions.add(execution_id)
        path = f"/v1/executions/{execution_id}"
        if is_cancelled:
            await self._pause(self._dice.uniform(0.0, 4.0))
            while (await client.ask("DELETE", path)) is None:
                row = await client.get(path)
                if row and row["status"] == "finished":
                    break
                await asyncio.sleep(1.0)  # This API does not know it yet.
        while not self._stop.is_set():
            row = await client.get(f"{path}?until=finished&wait_s={WAIT_ENDS_S:.0f}")
            if row and row["status"] == "finished":
                return
            if row is None:
                await asyncio.sleep(0.5)

    async def _reserve(self, pool: str) -> None:
        client, dice = self._client, self._dice
        body = {
            "pool": pool,
            "selectors": ["kind=local"] * dice.choice([1, 1, 2, 3]),
            "duration_s": dice.uniform(4.0, 15.0),
            "wait_timeout_s": 20.0,
        }
        name = await client.subject(await client.ask("POST", "/v1/reservations", body))
        if name is None:
            return
        path = f"/v1/reservations/{name}"
        row = await client.get(f"{path}?until=granted&wait_s={WAIT_ENDS_S:.0f}")
        if row and row["status"] == "granted":
            if dice.random() < 0.5:
                await client.ask("POST", f"{path}/extend", {"duration_s": 5.0})
            if dice.random() < 0.5:
                await self._run_local(pool, reservation_id=name, selector="")
        if dice.random() < 0.7:
            await client.ask("DELETE", path)
