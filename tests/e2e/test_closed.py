"""What a test, a viewer and a later test cannot get at in the installed `teo`."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.e2e.lab import Lab
from tests.integration.test_confinement import RUNAWAY
from tests.integration.trees import is_alive

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(200)]

ON_RPI = ("-l", "board=rpi4")


def test_a_secret_is_refused_before_anything_is_sent(lab: Lab, tmp_path: Path) -> None:
    before = lab.state()
    file = tmp_path / "run.yaml"
    file.write_text("command: ['true']\nenv: {API_TOKEN: hunter2}\n")
    for arguments in (("--env", "API_TOKEN=hunter2", "--", "true"), ("-f", str(file))):
        done = lab.teo("run", *ON_RPI, *arguments)
        assert done.returncode == 2, done.stderr
        assert "--allow-env API_TOKEN" in done.stderr
        assert "hunter2" not in done.stderr
    assert lab.state() == before
    body = {"run": {"command": ["true"], "env": {"API_TOKEN": "hunter2"}}, "pool": "lab-a"}
    token = (lab.folder / "data" / "token").read_text()
    status, _, answer = lab.ask(
        "POST",
        "/v1/executions",
        json.dumps(body).encode(),
        **{"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    assert (status, json.loads(answer)["code"]) == (422, "invalid_secret")
    assert b"hunter2" not in answer


@pytest.mark.parametrize(
    ("flag", "command", "name"),
    [
        ("--memory-max=64M", "kept = bytes(range(256)) * (1 << 20)", "memory_max is 64 MiB"),
        ("--disk-max=2M", "open('big', 'wb').write(bytes(3 << 20))", "disk_max is 2 MiB"),
    ],
)
def test_a_test_over_its_limit_has_failed(lab: Lab, flag: str, command: str, name: str) -> None:
    code = f"{command}; import time; time.sleep(60)"
    done = lab.teo("run", *ON_RPI, flag, "--", sys.executable, "-c", code)
    assert done.returncode == 1, done.stderr
    execution = lab.json("status")[0]
    assert (execution["verdict"], execution["code"]) == ("failed", "limit_exceeded")
    assert name in execution["reason"]


def test_a_test_that_kills_its_guardian_leaves_nothing_and_its_bench_goes_on(
    lab: Lab, tmp_path: Path
) -> None:
    out = tmp_path / "pid"
    command = (sys.executable, "-c", RUNAWAY, str(out), "parent", "exec", "lower", "reaper")
    done = lab.teo("run", "-l", "site=muc", "--retries", "0", "--", *command)
    assert done.returncode == 3, done.stderr
    assert not is_alive(int(out.read_text()))
    assert lab.teo("run", "-l", "site=muc", "--", "true").returncode == 0


def test_an_artifact_that_a_later_test_changed_is_not_given_out(lab: Lab, tmp_path: Path) -> None:
    keep = "echo kept > $TEO_ARTIFACTS_DIR/evidence.txt"
    execution = lab.ok("run", *ON_RPI, "--detach", "--", "sh", "-c", keep)
    lab.ok("wait", execution)
    store = lab.folder / "data" / "artifacts"
    (file,) = store.rglob(f"{execution}/**/evidence.txt")
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    forge = f"chmod u+w {file}; echo forged > {file}"
    lab.ok("run", *ON_RPI, "--", "sh", "-c", forge)
    done = lab.teo("artifacts", execution, "--download", str(tmp_path))
    assert done.returncode != 0
    assert "was changed after it was kept" in done.stderr
    # Not one byte of it is written, also under no other name; it keeps back no other file.
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["log.txt"]
    found = lab.teo("fsck", "--data-dir", str(lab.folder / "data"), "-o", "json")
    assert found.returncode == 1, found.stdout
    rules = {each["rule"] for each in json.loads(found.stdout)["findings"]}
    assert rules == {"artifacts_are_what_was_kept"}
    file.chmod(0o600)
    file.write_text("kept\n")
    lab.ok("artifacts", execution, "--download", str(tmp_path))
    assert (tmp_path / "artifacts" / "evidence.txt").read_text() == "kept\n"


def test_all_that_the_lab_keeps_is_its_users_alone(lab: Lab) -> None:
    data = lab.folder / "data"
    lab.ok("run", *ON_RPI, "--", "true")
    for path in (data, data / "artifacts", data / "worker"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    made = [path for path in data.rglob("*") if not path.is_symlink() and "kafka" not in path.parts]
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o022] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="a root may look into every process")
def test_a_test_cannot_read_what_its_worker_was_started_with(lab: Lab) -> None:
    pids = " ".join(str(pid) for pid in lab.up["roles"].values())
    script = f"for pid in {pids}; do cat /proc/$pid/environ && exit 9; done; true"
    done = lab.teo("run", *ON_RPI, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stdout
