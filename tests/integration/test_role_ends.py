"""How a role's process ends when it must not go on, and that others cannot end it."""

import asyncio
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from cli.local.properties import free_port
from events.codec import encode
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.log import Outgoing
from events.message import EventMessage
from events.topics import Topics, specs
from tests.integration.roles import Process, role
from tests.unit.processors.scheduler.history import lab, reserve

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

SEEN_S_MAX = 60.0
HELD_S = 8.0
"""Longer than the 5 s that SQLite waits unless told otherwise."""
ANSWER_S_MAX = 4.0
"""Shorter than the lock is held: nothing may wait for it."""
LOCKER = f"""
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep({HELD_S})
db.execute("COMMIT")
"""


@dataclass
class Api:
    """One `teo serve api`, and the journal it reads."""

    process: Process
    url: str
    token: str
    database: Path
    kafka: str
    topics: Topics

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(self.url + path, headers=headers, timeout=ANSWER_S_MAX)

    def readyz(self) -> tuple[int, str]:
        answer = self.get("/readyz")
        return answer.status_code, str(answer.json()["checks"]["projection"]["detail"])

    def write(self, messages: list[EventMessage]) -> None:
        """Write to the journal, as only a scheduler may."""

        async def commit() -> None:
            async with KafkaLog(self.kafka, client_id="test") as log:
                writer = await log.open_writer(f"{self.topics.prefix}-test")
                await writer.commit(
                    [
                        Outgoing(
                            topic=self.topics.events, key=b"lab", value=encode(each), partition=0
                        )
                        for each in messages
                    ]
                )
                await writer.close()

        asyncio.run(commit())


@contextmanager
def serving(kafka: str, topics: Topics, folder: Path) -> Iterator[Api]:
    wanted = specs(topics, partitions=1, min_insync=1)
    asyncio.run(ensure_topics(kafka, wanted, replication=1))
    token, port = new_token(), free_port()
    write_token_file(folder / "tokens", {token: Principal(actor="ann", roles=("admin",))})
    database = folder / "read.db"
    where = ["--kafka", kafka, "--topic-prefix", topics.prefix, "--port", str(port)]
    files = ["--tokens", str(folder / "tokens"), "--database", str(database)]
    files += ["--artifacts", str(folder / "artifacts")]
    with role(folder, "api", *where, *files) as process:
        api = Api(process, f"http://127.0.0.1:{port}", token, database, kafka, topics)
        until(lambda: is_ready(api))
        yield api


def is_ready(api: Api) -> bool:
    try:
        return api.readyz()[0] == 200
    except httpx.HTTPError:
        return False


def until(is_met: Callable[[], object]) -> None:
    end_s = time.monotonic() + SEEN_S_MAX
    while not is_met():
        assert time.monotonic() < end_s
        time.sleep(0.1)


@pytest.fixture
def topics(topic_prefix: str) -> Topics:
    return Topics(topic_prefix.rstrip("."))


def test_a_database_locked_by_another_process_ends_nothing(
    kafka: str, topics: Topics, tmp_path: Path
) -> None:
    history = lab("b1")
    with serving(kafka, topics, tmp_path) as api:
        api.write(history.events)
        until(lambda: api.get("/v1/benches").json()["items"])
        with subprocess.Popen(
            [sys.executable, "-I", "-c", LOCKER, str(api.database)], stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            known = len(history.events)
            history.ask(reserve("r1"))
            api.write(history.events[known:])
            until(lambda: api.readyz()[0] == 503)
            said: list[str] = []
            while other.poll() is None:
                assert [bench["state"] for bench in api.get("/v1/benches").json()["items"]] == [
                    "idle"
                ]
                status, detail = api.readyz()
                said += [detail] if status == 503 else []
                time.sleep(0.1)
            assert any("locked by another process" in each for each in said)
            lasted = [int(each.rpartition(", for ")[2].split()[0]) for each in said]
            assert max(lasted) > HELD_S / 2, "since when is said"
        until(lambda: api.get("/v1/benches").json()["items"][0]["state"] == "held")
        assert api.readyz()[0] == 200
        assert api.process.terminate()[0] == 0


def test_an_api_that_cannot_go_on_ends_with_3_and_says_why(
    kafka: str, topics: Topics, tmp_path: Path
) -> None:
    history = lab("b1")
    with serving(kafka, topics, tmp_path) as api:
        with closing(sqlite3.connect(api.database, timeout=30)) as db, db:
            db.execute("DROP TABLE benches")
        api.write(history.events)
        assert api.process.wait() == 3
    last = api.process.log.read_text().splitlines()[-1]
    assert last.startswith("teo: api: the projector cannot go on: ")
    assert "benches" in last


def test_a_role_whose_port_is_taken_ends_with_3_and_says_why(
    kafka: str, topics: Topics, tmp_path: Path
) -> None:
    asyncio.run(ensure_topics(kafka, specs(topics, partitions=1, min_insync=1), replication=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        where = ["--kafka", kafka, "--topic-prefix", topics.prefix, "--health-port", port]
        for name in ("scheduler", "watcher"):
            with role(tmp_path, name, *where) as process:
                assert process.wait() == 3, process.log.read_text()
            assert f"nothing can be served at 127.0.0.1:{port}" in process.log.read_text()


def test_a_role_that_is_told_to_stop_ends_with_0(
    kafka: str, topics: Topics, tmp_path: Path
) -> None:
    """The control: 3 is for what goes wrong alone."""
    asyncio.run(ensure_topics(kafka, specs(topics, partitions=1, min_insync=1), replication=1))
    for name in ("scheduler", "watcher"):
        port = free_port()
        where = ["--kafka", kafka, "--topic-prefix", topics.prefix, "--health-port", str(port)]
        with role(tmp_path, name, *where) as process:
            until(lambda port=port: answers(port))
            assert process.terminate()[0] == 0, process.log.read_text()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.HTTPError:
        return False
