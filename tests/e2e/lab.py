"""One running system and its users, for the tests of the installed `teo`."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.local.tree import processes

TEO = Path(sys.executable).with_name("teo")
WAIT_S = 60.0
BENCHES = """
pool: lab-a
benches:
  - {name: bench-1, labels: {board: rpi4, site: muc}, adapter: local, config: {}}
  - {name: bench-2, labels: {board: rpi4, site: ber}, adapter: local, config: {}}
  - {name: bench-3, labels: {board: mock}, adapter: mock, config: {exit_codes: [3]}}
  - {name: bench-4, labels: {board: broken}, adapter: mock, config: {provision: {fail: no power}}}
"""


@dataclass(frozen=True)
class Lab:
    """A running system and the environment of its users."""

    folder: Path
    env: dict[str, str]
    bobs_token: str
    """Of somebody who may reserve and run, and owns nothing yet."""

    def teo(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(TEO), *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        done = self.teo(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "-o", "json"))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(TEO), *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def execution(self, execution_id: str) -> Any:
        return self.json("status", execution_id)

    @property
    def server(self) -> str:
        """The address of the API."""
        return str(self.up["server"])

    @property
    def up(self) -> Any:
        """What `teo up` says of itself."""
        return json.loads((self.folder / "data" / "up.json").read_text())

    def state(self) -> Any:
        """Return all that a refused command must leave as it is."""
        return [
            self.get("/v1/benches?pool=lab-a"),
            self.get("/v1/reservations?limit=500"),
            self.get("/v1/executions?limit=500"),
        ]

    def get(self, path: str) -> Any:
        """Return the answer of the API itself."""
        token = (self.folder / "data" / "token").read_text()
        status, _, answer = self.ask("GET", path, Authorization=f"Bearer {token}")
        assert status == 200, answer
        return json.loads(answer)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, str | None, bytes]:
        """Return status, content type and body of what the API answers."""
        connection = http.client.HTTPConnection(self.server.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["content-type"], answer.read()
        finally:
            connection.close()

    def kill(self, role: str) -> None:
        """Kill -9 a role; `teo up` starts it again."""
        (pid,) = self.pids(role)
        os.kill(pid, signal.SIGKILL)

    def pids(self, role: str) -> list[int]:
        """Return the processes that serve a role of this system."""
        up = self.up["pid"]
        return [pid for pid, parent, *_ in processes() if parent == up and _is_role(pid, role)]

    def kill_kafka(self) -> None:
        """Kill -9 the broker's JVM; `teo up` starts it again."""
        home = f"-Djava.io.tmpdir={self.folder / 'data' / 'kafka'}".encode()
        found = [each for each in _processes() if _is_jvm(each, home)]
        assert len(found) == 1, found
        os.kill(found[0], signal.SIGKILL)


def _is_role(pid: int, role: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    return words[3:5] == ["serve", role]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_jvm(pid: int, home: bytes) -> bool:
    """Return True for the JVM itself, not for its supervisor, whose words are the same."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"java") and any(word.startswith(home) for word in words)


def until(is_met: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> Any:
    end_s = time.monotonic() + wait_s
    while not (found := is_met()):
        assert time.monotonic() < end_s, f"not within {wait_s:.0f} s: {what}"
        time.sleep(0.1)
    return found
