"""`teo fsck` beside a running `teo up`: clean when it is, and a forged event is found and named."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.codec import decode_event, encode
from events.kafka.log import KafkaLog
from events.log import Outgoing, Partition
from events.message import Message
from events.topics import Topics

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(280)]

TEO = Path(sys.executable).with_name("teo")
BENCHES = """
pool: lab
benches:
  - {name: bench-1, labels: {board: mock}, adapter: mock, config: {}}
  - {name: bench-2, labels: {board: broken}, adapter: mock, config: {provision: {fail: no power}}}
"""


class Lab:
    """A running system in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("TEO_")}
        self.env["TEO_CONFIG"] = str(folder / "config.yaml")
        self.env["TEO_SNAPSHOT_EVERY"] = "10"

    def teo(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(TEO), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def fsck(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.teo("fsck", "-o", "json", *arguments)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return state


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A system in which things happened: runs that passed, and one the lab gave up."""
    system = Lab(tmp_path_factory.mktemp("fsck"))
    done = system.teo("up", "--detach", "--data-dir", str(system.data), "--port", "0")
    assert done.returncode == 0, done.stderr
    try:
        benches = system.folder / "benches.yaml"
        benches.write_text(BENCHES)
        assert system.teo("bench", "apply", "-f", str(benches)).returncode == 0
        for _ in range(4):
            assert system.teo("run", "-l", "board=mock", "--", "true").returncode == 0
        run = ("run", "-l", "board=broken", "--retries", "0", "--", "true")
        assert system.teo(*run).returncode == 3
        yield system
    finally:
        system.teo("down", "--data-dir", str(system.data))


def rules(report: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in report["findings"]}


def test_a_sound_system_is_clean(lab: Lab) -> None:
    code, report = lab.fsck("--data-dir", str(lab.data))
    assert (code, report["findings"], report["is_clean"]) == (0, [], True)
    checked = report["checked"]
    assert checked["events"] > 30
    assert checked["snapshots"] >= 1
    assert checked["live_states"] == checked["partitions"]
    assert (checked["results"], checked["dead_letters"], checked["read_models"]) == (5, 1, 1)
    told = lab.teo("fsck", "--data-dir", str(lab.data))
    assert told.returncode == 0
    assert "clean" in told.stdout


def test_a_read_model_that_was_tampered_with_is_found(lab: Lab, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    source = sqlite3.connect(lab.data / "projections.sqlite")
    target = sqlite3.connect(copy)
    source.backup(target)
    source.close()
    sound = lab.fsck("--kafka", lab.state["kafka"], "--database", str(copy))
    assert sound[0] == 0, sound
    target.execute("UPDATE executions SET verdict = 'failed' WHERE verdict = 'passed'")
    target.commit()
    target.close()
    before = copy.read_bytes()
    code, report = lab.fsck("--kafka", lab.state["kafka"], "--database", str(copy))
    assert (code, rules(report)) == (1, {"projection_is_the_journal"})
    assert str(copy) in report["findings"][0]["text"]
    assert copy.read_bytes() == before, "it only looks"
    shutil.rmtree(tmp_path)


@contextmanager
def lying(answer: dict[str, Any]) -> Iterator[str]:
    """A scheduler that says what it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_live_state_that_is_another_is_found(lab: Lab) -> None:
    answer = httpx.get(f"{lab.state['scheduler']}/state", timeout=20).json()
    full = max(answer["partitions"], key=lambda each: each["seq"])
    full["fingerprint"] = "0" * 64
    with lying(answer) as url:
        code, report = lab.fsck("--kafka", lab.state["kafka"], "--scheduler", url)
    assert (code, rules(report)) == (1, {"live_state_is_the_fold"})
    assert report["findings"][0]["partition"] == full["partition"]


def test_what_cannot_be_read_exits_3(lab: Lab, tmp_path: Path) -> None:
    kafka = ("--kafka", lab.state["kafka"])
    assert lab.teo("fsck", *kafka, "--topic-prefix", "none-such").returncode == 3
    assert lab.teo("fsck", *kafka, "--scheduler", "http://127.0.0.1:9").returncode == 3
    assert lab.teo("fsck", *kafka, "--database", str(tmp_path / "none")).returncode == 3
    assert lab.teo("fsck", "--data-dir", str(tmp_path)).returncode == 2


def test_a_rebuild_beside_a_running_api_says_the_way_under_teo_up(lab: Lab) -> None:
    database = str(lab.data / "projections.sqlite")
    done = lab.teo("projections", "rebuild", "--kafka", lab.state["kafka"], "--database", database)
    assert done.returncode == 3
    assert f"`teo down`, delete {database}*, `teo up`" in done.stderr
    assert "a folder of its own" not in done.stderr


def test_a_forged_event_is_found_and_named(lab: Lab) -> None:
    """The last test of this system: a journal that was tampered with stays so."""

    async def forge() -> tuple[int, int, str]:
        async with KafkaLog(lab.state["kafka"], client_id="forger") as log:
            topic = Topics().events
            every = [Partition(topic, n) for n in range(await log.partitions(topic))]
            ends = await log.ends(every)
            fullest = max(every, key=lambda each: ends[each])
            reader = await log.open_reader({fullest: 0})
            records = []
            while await reader.position(fullest) < ends[fullest]:
                records += await reader.poll(records_max=500, wait_s=1.0)
            await reader.close()
            events = [decode_event(record.value) for record in records]
            verdict = next(e for e in events if type(e.body).__name__ == "ExecutionFinished")
            meta = replace(verdict.meta, index=0, count=1)
            body = replace(verdict.body, verdict="failed")  # type: ignore[type-var]
            value = encode(Message(meta, body))
            record = Outgoing(topic=topic, key=b"lab", value=value, partition=fullest.number)
            [at] = await log.append([record])
            return at.partition, at.offset, verdict.body.execution_id  # type: ignore[union-attr]

    partition, offset, execution = asyncio.run(forge())
    code, report = lab.fsck("--kafka", lab.state["kafka"])
    assert code == 1
    here = [each for each in report["findings"] if each["offset"] == offset]
    assert {each["partition"] for each in here} == {partition}
    assert {each["rule"] for each in here} >= {
        "journal_is_dense_and_whole",
        "one_verdict_per_execution",
    }
    assert all(execution in each["ids"] for each in here)
    told = lab.teo("fsck", "--kafka", lab.state["kafka"])
    assert told.returncode == 1
    assert f"teo.events[{partition}]@{offset}" in told.stdout
    assert execution in told.stdout
    assert "docs/operations.md" in told.stderr
