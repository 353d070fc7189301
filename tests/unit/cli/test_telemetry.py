"""Every line of a role's log is JSON, whoever writes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import logging, warnings
import structlog
from cli import telemetry
end = telemetry.start("scheduler")
structlog.get_logger().info("role.started", pid=1)
kafka = logging.getLogger("aiokafka")
for _ in range(100):
    kafka.warning("Unable connect to node %s", 1)
try:
    1 / 0
except ZeroDivisionError:
    kafka.exception("it broke")
warnings.warn("old")
end()
"""


def test_what_libraries_log_has_the_form_of_our_own():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "warning"]
    assert {line["role"] for line in lines} == {"scheduler"}
    assert all(line["timestamp"] for line in lines)
    assert [lines[1][key] for key in ("event", "logger")] == [
        "Unable connect to node 1",
        "aiokafka",
    ]
    assert "ZeroDivisionError" in lines[2]["exception"]


@pytest.mark.parametrize("verb", [["init"], ["fsck"], ["projections", "rebuild"]])
def test_a_verb_without_kafka_says_one_error(verb, tmp_path, monkeypatch):
    code = (
        f"import sys; sys.argv = ['teo', *{verb!r}, '--kafka', '127.0.0.1:9'];"
        "import cli.init, cli.fsck; cli.init.BROKER_WAIT_S = cli.fsck.BROKER_WAIT_S = 1.0;"
        "from cli.main import main; main()"
    )
    monkeypatch.setenv("TEO_DATABASE", str(tmp_path / "projections.sqlite"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()
    assert done.returncode == 3
    assert [line for line in said if line.startswith("teo: ")], said
    assert not [line for line in said if "Unable connect" in line]
    assert len(said) <= 3, said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_on_a_full_disk_stops_no_work():
    code = f"{SCRIPT}print('worked')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert done.stdout == "worked\n"
