"""The CLI against a real HTTP server that plays the API: streams that break, refusals, signals."""

import asyncio
import hashlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapters.folders import remove_tree
from cli.downloads import DownloadFolder
from cli.main import VERBS
from cli.root import build
from cli.run import CANCEL_WAIT_S
from events.logs import TOO_FAST
from tests.unit.cli.fake_api import (
    DEADLINE_S,
    EXE,
    RES,
    TOKEN,
    FakeApi,
    execution,
    finished,
    lines,
    until,
)

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture
def api():
    fake = FakeApi()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def env(api, tmp_path, monkeypatch):
    given = {
        "TEO_SERVER": api.url,
        "TEO_TOKEN": TOKEN,
        "TEO_RECONNECT": "15s",
        "TEO_CONFIG": str(tmp_path / "config.yaml"),
        "TERM": "xterm",
    }
    for name in ("TEO_CONTEXT", "TEO_POOL", "NO_COLOR", "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **given}


@pytest.fixture
def teo(env, capsys):
    def run(*args):
        with pytest.raises(SystemExit) as left:
            build(VERBS)(list(args), prog_name="teo")
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def spawn(env, *args, **streams):
    code = "from cli.main import main; main()"
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-c", code, *args], env=env, cwd=TREE, **piped)


def test_pools_are_shown_with_their_rule_for_sick_benches(api, teo):
    api.rules = {"lab-b": {"errors_max": 3, "window_s": 600.0}}
    api.pools = ["lab-a", "lab-b", "lab-c"]
    code, out, _ = teo("pool", "list")
    assert code == 0
    assert [line.split()[-4:] for line in out.splitlines()[1:]][1] == [
        "3",
        "errors",
        "in",
        "10m00s",
    ]
    assert out.count("default") == 2
    code, out, _ = teo("pool", "show", "lab-b", "-o", "json")
    assert (code, json.loads(out)["health"]["errors_max"]) == (0, 3)
    code, out, err = teo("pool", "show", "nowhere")
    assert (code, out) == (6, "")
    assert "no pool nowhere" in err


def test_run_streams_both_streams_exactly_and_passes(api, teo):
    api.frames = [lines(1, 1, "a\tb ", "oops", "", stderr=[1]), lines(1, 4, "\x1b[31mred\r")]
    code, out, err = teo("run", "-l", "board=rpi4", "-l", "site=muc", "--", "pytest", "-q")
    assert code == 0
    assert out == "a\tb \n\n\x1b[31mred\r\n"
    assert "oops\n" in err
    assert "PASSED" in err
    (body,) = api.bodies("POST", "/v1/executions")
    assert body == {"selector": "board=rpi4,site=muc", "run": {"command": ["pytest", "-q"]}}


@pytest.mark.parametrize(
    ("verdict", "code", "exit_code"),
    [
        ("failed", "exit_code", 1),
        ("error", "worker_lost", 3),
        ("cancelled", "cancelled_by_user", 4),
        ("timed_out", "timeout", 5),
        ("cancelled", "wait_timed_out", 7),
        ("cancelled", "lease_lost", 8),
    ],
)
def test_run_and_wait_exit_with_the_verdict(api, teo, verdict, code, exit_code):
    api.at_end = finished(verdict, code, reason="because of it")
    ran, _, err = teo("run", "true")
    assert ran == exit_code
    assert verdict.upper() in err
    assert "because of it" in err
    assert teo("wait", EXE)[0] == exit_code


@pytest.mark.parametrize(
    ("verdict", "code", "fault", "said", "exit_code"),
    [
        ("error", "provision_failed", "bench", "the lab's: bench b1", 3),
        ("error", "state_unusable", "worker", "the lab's: worker w1", 3),
        ("error", "store_unavailable", "store", "the lab's: store of artifacts", 3),
        ("failed", "glob_refused", "asker", "yours: how it was asked for", 2),
    ],
)
def test_it_is_said_whose_fault_it_was(api, teo, verdict, code, fault, said, exit_code):
    attempt = {"number": 1, "bench": "b1", "worker": "w1", "verdict": verdict, "fault": fault}
    api.at_end = finished(verdict, code, reason="because", fault=fault, attempts=[attempt])
    ran, _, err = teo("run", "true")
    assert (ran, f"  fault:     {said}" in err) == (exit_code, True)
    _, out, _ = teo("status", EXE)
    assert said in out


def test_a_failure_of_the_tests_is_nobody_elses(api, teo):
    api.at_end = finished("failed", "exit_code", reason="exit code 1", fault="test")
    ran, _, err = teo("run", "true")
    assert (ran, "fault:" in err) == (1, False)


def test_a_broken_stream_is_resumed_without_loss_or_repeat(api, teo):
    api.frames = [lines(1, n, f"line {n}") for n in range(1, 6)]
    api.cuts = {1, 3}
    code, out, _ = teo("run", "true")
    assert code == 0
    assert out == "".join(f"line {n}\n" for n in range(1, 6))
    resumed = [h.get("last-event-id") for _, p, h, _ in api.asked if p.endswith("/logs")]
    assert resumed == [None, "1.1", "1.3"]


def test_lines_sent_twice_are_written_once_and_lost_ones_are_named(api, teo):
    api.frames = [lines(1, 1, "1", "2"), lines(1, 2, "2", "3"), lines(1, 6, "6")]
    _, out, err = teo("logs", EXE, "-f")
    assert out == "1\n2\n3\n6\n"
    assert (
        f"lines 4 to 5 of attempt 1 are not here; look in its log.txt: teo artifacts {EXE}" in err
    )


def gap(attempt, first, following):
    return ("gap", {"attempt": attempt, "first_line": first, "next_line": following}, None)


def test_lines_that_came_too_fast_are_counted_at_the_end(api, teo):
    api.frames = [
        lines(1, 1, "1", "2", TOO_FAST),
        gap(1, 4, 10),
        lines(1, 10, "10"),
        gap(1, 11, 21),
    ]
    code, out, err = teo("run", "true")
    assert (code, out) == (0, f"1\n2\n{TOO_FAST}\n10\n")
    assert f"17 lines of attempt 1 came too fast to be shown; all of them: teo logs {EXE}" in err
    api.frames = [gap(1, 1, 3), lines(1, 1, "1", "2"), lines(1, 3, "3")]
    code, out, err = teo("run", "true")
    assert (code, out, "too fast" in err) == (0, "1\n2\n3\n", False)


def test_a_log_that_is_over_is_read_in_one_stream(api, teo):
    ended = {"number": 1, "bench": "b", "finished_at": "2026-01-01T00:00:13Z"}
    api.execution = finished("passed", attempts=[ended])
    api.frames = [lines(1, 1, "1", "2"), gap(1, 3, 5), lines(1, 3, "3"), lines(1, 4, "4")]
    assert teo("logs", EXE)[:2] == (0, "1\n2\n3\n4\n")
    assert [p for _, p, _, _ in api.asked if p.endswith("/logs")] == [f"/v1/executions/{EXE}/logs"]
    said = [json.loads(line) for line in teo("logs", EXE, "-o", "json")[1].splitlines()]
    assert said[2] == {"attempt": 1, "n": 3, "stream": "stdout", "text": "3"}
    assert [line["n"] for line in said] == [1, 2, 3, 4]


def test_a_new_attempt_is_said_with_the_reason(api, teo):
    attempts = [
        {"number": 1, "bench": "bench-1", "reason": "the worker is lost"},
        {"number": 2, "bench": "bench-2"},
    ]
    api.at_end = finished("passed", "passed", attempts=attempts)
    api.frames = [lines(1, 1, "first"), ("attempt", {"attempt": 2}, None), lines(2, 1, "again")]
    _, out, err = teo("run", "true")
    assert out == "first\nagain\n"
    assert "attempt 1 ended: the worker is lost; attempt 2 on bench-2" in err


REQUEUED = ("requeued", {"attempt": 1, "code": "provision_failed", "reason": "no power"}, None)


def test_an_attempt_that_is_lost_is_said_at_once_and_once(api, teo):
    api.at_end = finished("passed", "passed", attempts=[{"number": 2, "bench": "bench-2"}])
    api.frames = [REQUEUED, REQUEUED, ("attempt", {"attempt": 2}, None), lines(2, 1, "again")]
    api.execution = execution(status="assigned")
    _, out, err = teo("run", "true")
    assert out == "again\n"
    said = "attempt 1 ended: provision_failed, no power; it is tried again\n"
    assert (err.count(said), err.count("attempt 1 ended")) == (1, 1)
    assert "attempt 2 on bench-" in err
    assert "quarantined" not in err


STUCK = "1 bench matches, it is quarantined (smoke): teo bench show sick-1 --pool lab-a"


def test_a_run_that_only_a_sick_bench_could_serve_says_so(api, teo):
    api.execution = execution(status="queued", queue_position=1, stuck=STUCK)
    _, _, err = teo("run", "true")
    assert f"place 1 in the queue: {STUCK}" in err
    api.execution = execution(status="queued", queue_position=1, reason="no power", stuck=STUCK)
    assert f"no power; {STUCK}" in teo("status", EXE)[1]
    api.execution = execution(status="queued", queue_position=1, stuck="")
    assert "quarantined" not in teo("run", "true")[2]


def test_a_retry_that_waits_for_a_sick_bench_says_so(api, teo):
    async def requeue():
        api.execution = execution(status="queued")

    def looked(times):
        """Wait until the client has looked so often at the execution."""

        async def wait():
            path = f"/v1/executions/{EXE}"
            await asyncio.to_thread(until, lambda: api.count("GET", path) >= times, times)

        return wait

    async def quarantine():
        api.execution = execution(status="queued", stuck=STUCK)

    silence = ": keep-alive\n\n"
    api.frames = [requeue, REQUEUED, looked(1), quarantine, silence, looked(2), silence, looked(3)]
    _, _, err = teo("run", "true")
    assert err.count("it is quarantined (smoke): teo bench show sick-1") == 1


def test_a_write_is_tried_again_with_the_same_key(api, teo):
    api.failures += [(503, "log_unavailable", "wait"), (500, "", "boom")]
    assert teo("run", "true")[0] == 0
    keys = api.keys("POST", "/v1/executions")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    traces = {headers["traceparent"] for _, _, headers, _ in api.asked}
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("aside_code", "exit_code", "step"),
    [
        ("too_late", 3, "see `clock` of /readyz and `teo dlq list`, then ask anew"),
        ("crashed", 3, "`teo dlq list`"),
        ("record_too_big", 2, "ask for less at once"),
    ],
)
def test_a_command_that_was_set_aside_ends_run_with_the_reason(
    api, teo, aside_code, exit_code, step
):
    """Answered late, with where to look."""
    api.execution = None
    api.aside = {"code": aside_code, "reason": "its clock is a day off", "subject_id": ""}
    code, out, err = teo("run", "true")
    assert (code, out) == (exit_code, "")
    assert "command cmd-1 could not be decided: its clock is a day off" in err
    assert step in err
    assert len(api.keys("POST", "/v1/executions")) == 1


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [((409, "command_set_aside", "x; y"), 3), ((413, "command_too_big", "x; y"), 2)],
)
def test_a_command_that_was_set_aside_at_once_is_not_tried_again(api, teo, answer, exit_code):
    api.failures += [answer] * 3
    assert teo("run", "true")[0] == exit_code
    assert len(api.keys("POST", "/v1/executions")) == 1


UNDECIDED = (
    503,
    "log_unavailable",
    "the log does not answer, so the command may or may not have been taken (TimeoutError: ); "
    "send it again with the same Idempotency-Key, or look with GET /v1/commands/1",
)


def test_a_server_that_cannot_serve_is_not_called_unreachable(api, teo, monkeypatch):
    monkeypatch.setenv("TEO_RETRY", "200ms")
    api.failures += [(503, "log_unavailable", "the log does not serve this now; wait")] * 20
    code, out, err = teo("pool", "list")
    assert (code, out) == (9, "")
    said = f"the server at {api.url} cannot serve this now: 503 the log does not serve this now\n"
    assert said in err
    assert f"next: see which part is away with `curl {api.url}/readyz`" in err
    assert "start Kafka again" in err
    assert "teo up" not in err
    assert "send it again" not in err, "it was only asked, not told"


def test_a_server_that_takes_too_long_is_not_called_unreachable(api, teo, monkeypatch):
    monkeypatch.setenv("TEO_RETRY", "100ms")
    monkeypatch.setattr("cli.client.READ_TIMEOUT_S", 0.1)
    api.is_mute = True
    code, out, err = teo("status", EXE)
    assert (code, out) == (9, "")
    assert f"the server at {api.url} cannot serve this now: no answer within" in err
    assert f"`curl {api.url}/readyz`" in err


def test_a_write_that_may_have_been_taken_is_looked_for_first(api, teo, monkeypatch):
    monkeypatch.setenv("TEO_RETRY", "200ms")
    api.failures += [UNDECIDED] * 20
    code, out, err = teo("run", "true")
    assert (code, out) == (9, "")
    assert "may or may not have been taken" in err
    assert "before you send it again, look with `teo status`" in err
    assert "Idempotency-Key" not in err


def test_a_replay_that_is_undecided_is_repeated(api, teo, monkeypatch):
    monkeypatch.setenv("TEO_RETRY", "200ms")
    hint = "it is not known yet; repeat it with the same Idempotency-Key"
    api.failures += [(503, "replay_undecided", hint)] * 20
    code, _, err = teo("dlq", "replay", "0-1")
    assert code == 9
    assert "next: repeat the replay: it counts once" in err


def test_each_write_has_its_own_key(api, teo, tmp_path):
    file = tmp_path / "b.yaml"
    file.write_text(
        "pool: a\nbenches: [{name: x, adapter: mock}]\n---\n"
        "pool: b\nbenches: [{name: y, adapter: mock}]\n"
    )
    code, out, _ = teo("bench", "apply", "-f", str(file), "-o", "name")
    assert (code, out) == (0, "x\ny\n")
    (first,) = api.keys("PUT", "/v1/pools/a/benches")
    (second,) = api.keys("PUT", "/v1/pools/b/benches")
    assert first != second


def test_a_dry_run_sends_nothing(api, teo, tmp_path):
    file = tmp_path / "b.yaml"
    file.write_text("pool: a\nbenches: [{name: x, adapter: mock}]\n")
    assert teo("bench", "apply", "-f", str(file), "--dry-run")[0] == 0
    assert api.asked == []


def test_a_slow_command_is_looked_up(api, teo):
    api.execution = None
    code, out, _ = teo("run", "--detach", "true")
    assert (code, out) == (0, f"{EXE}\n")


def test_what_waits_is_shown(api, teo):
    api.execution = execution(status="queued", queue_position=3)
    code, _, err = teo("run", "true")
    assert code == 0
    assert "place 3 in the queue" in err


@pytest.mark.parametrize(
    ("failure", "exit_code", "said"),
    [
        ((409, "no_matching_bench", "no bench has board=z80"), 6, "board=z80"),
        ((403, "not_owner", "it is bob's"), 6, "bob"),
        ((404, "no_such_execution", "there is no exe-0190aa"), 2, "teo status"),
        ((422, "invalid_timeout", "timeout_s is too long"), 2, "too long"),
    ],
)
def test_a_refusal_names_the_thing_and_the_next_step(api, teo, failure, exit_code, said):
    api.failures.append(failure)
    code, out, err = teo("status", EXE)
    assert (code, out) == (exit_code, "")
    assert said in err
    assert "Traceback" not in err


def test_a_passed_run_still_says_what_was_not_kept(api, teo):
    api.execution = finished(
        "passed", reason="exit code 0; 3 cases, none failed; 'x' not kept: big"
    )
    _, _, err = teo("run", "true")
    assert "note:      'x' not kept: big" in err
    api.execution = finished("passed", reason="exit code 0; 3 cases, none failed")
    assert "note:" not in teo("run", "true")[2]


def test_a_wrong_token_and_a_missing_server(api, teo, monkeypatch):
    monkeypatch.setenv("TEO_RETRY", "500ms")
    code, _, err = teo("whoami", "--token", "wrong")
    assert code == 10
    assert "TEO_TOKEN" in err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        code, _, err = teo("whoami", "--server", nobody)
    assert code == 9
    assert nobody in err
    assert "wrong" not in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["run", "--tiemout", "1m", "true"], "--timeout"),
        (["run"], "no command to run"),
        (["run", "--timeout", "90", "true"], "has no unit"),
        (["run", "--artifact", "../x", "true"], "climbs out"),
        (["run", "--artifact", "~/results/*", "true"], "leaves the workspace"),
        (["run", "--junit", "reports\\*.xml", "true"], "write / between names"),
        (["run", "--artifact", ".", "true"], "names no file"),
        (["run", "--artifact", "", "true"], "is empty"),
        (["run", "echo", "\udcff"], "not UTF-8"),
        (["run", "--env", "A=\udcff", "true"], "not UTF-8"),
        (["run", "--env", "TEO_FENCE=1", "true"], "cannot be given"),
        (["run", "--pool", "lab/a", "true"], "'lab/a' is no name of a pool"),
        (["run", "--retries", "11", "true"], "from 0 to 10"),
        (["run", "--timeout", "8d", "true"], "at most 7d"),
        (["bench", "show", "b", "--pool", ".."], "'..' is no name of a pool"),
        (["reserve", "-l", "a b"], "no label name"),
        (["status", "42"], "no id of an execution"),
        (["release", EXE], "begin with res-"),
        (["status", "-o", "xml"], "table, json, yaml, name"),
        (["events", "tail", "--from", "yesterday"], "now or beginning"),
        (["bench", "apply", "-f", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_bad_usage_is_told_before_anything_is_sent(api, teo, args, said):
    code, out, err = teo(*args)
    assert (code, out) == (2, "")
    assert said in err
    assert api.asked == []


def test_reserve_names_the_pools_when_there_are_several(api, teo):
    api.pools = ["lab-a", "lab-b", "lab-c"]
    code, _, err = teo("reserve")
    assert code == 2
    assert "lab-a, lab-b, lab-c" in err
    assert teo("reserve", "--pool", "lab-b", "-o", "name")[:2] == (0, f"{RES}\n")


def test_a_gang_is_one_reservation(api, teo):
    args = ["-l", "a=1", "-l", "b", "--with", "c=2", "--duration", "2h30m", "-o", "json"]
    code, out, _ = teo("reserve", *args)
    assert (code, json.loads(out)["id"]) == (0, RES)
    (body,) = api.bodies("POST", "/v1/reservations")
    assert (body["selectors"], body["duration_s"]) == (["a=1,b", "c=2"], 9_000.0)
    assert teo("extend", RES, "--duration", "30m")[0] == 0
    assert "released" in teo("release", RES)[2]


def test_lists_and_global_flags_before_and_after_the_verb(api, teo):
    assert teo("-o", "name", "status")[1] == f"{EXE}\n" * 3
    assert len(json.loads(teo("status", "-o", "json")[1])) == 3
    assert "bench-1" in teo("bench", "list", "-l", "board=rpi4")[1]
    assert "shown" in teo("status", "--limit", "2")[2]
    assert "attempts" in json.loads(teo("status", EXE, "-o", "json")[1])


def test_logs_results_and_events(api, teo):
    api.cases = [
        {"attempt": n, "classname": "t", "name": f"c{i}", "status": "passed", "duration_s": 0.1}
        for n in (1, 2)
        for i in range(3)
    ]
    assert teo("logs", EXE)[1] == "one\ntwo\nthree\n"
    assert teo("logs", EXE, "--since-line", "3")[1] == "three\n"
    assert teo("results", EXE, "-o", "name")[1] == "c0\nc1\nc2\n"
    assert teo("results", EXE, "-o", "junit")[1] == "<testsuites/>\n"
    code, out, _ = teo("events", "tail", "-n", "2", "-o", "json")
    assert code == 0
    assert [json.loads(line)["number"] for line in out.splitlines()] == [2, 3]


def test_a_download_goes_on_where_it_broke_and_is_checked(api, teo, tmp_path):
    body = bytes(range(256)) * 1_000
    api.files = {("logs/a b.bin", "artifact"): (body, hashlib.sha256(body).hexdigest())}
    assert teo("artifacts", EXE, "--download", str(tmp_path / "d"))[0] == 0
    assert (tmp_path / "d" / "logs" / "a b.bin").read_bytes() == body
    assert len(api.ranges) == 2
    assert api.ranges[1] > 0
    api.files = {("bad", "artifact"): (b"other than was kept", "0" * 64)}
    code, _, err = teo("artifacts", EXE, "--download", str(tmp_path / "d"))
    assert (code, "sha256" in err) == (3, True)
    assert sorted(each.name for each in (tmp_path / "d").iterdir()) == ["logs"]


def test_an_artifact_cannot_leave_the_folder(api, teo, tmp_path):
    evil = (b"evil", hashlib.sha256(b"evil").hexdigest())
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path)
    (tmp_path / "d" / "over").symlink_to(tmp_path / "evil")
    api.files = {
        (name, "artifact"): evil for name in ("../evil", "/evil", "link/evil", "a/../evil")
    }
    code, _, err = teo("artifacts", EXE, "--download", str(tmp_path / "d"))
    assert (code, "outside" in err, "link" in err) == (3, True, True)
    assert "4 of 4 artifacts were not downloaded" in err
    api.files = {("over", "artifact"): evil}
    assert teo("artifacts", EXE, "--download", str(tmp_path / "d"))[0] == 0
    assert (tmp_path / "d" / "over").is_file()
    assert not (tmp_path / "d" / "over").is_symlink()
    assert not (tmp_path / "evil").exists()


@pytest.fixture
def clean(tmp_path):
    """A folder that is removed at once: pytest's own removal of old folders recurses."""
    yield tmp_path
    remove_tree(tmp_path / "d")


def test_names_of_any_kind_are_downloaded_and_one_that_fails_keeps_back_no_other(api, teo, clean):
    names = ["a", "n" * 250, "n" * 255, "電" * 85, "deep/" * 1_500 + "x", "bad\\xff", "-rf", "z"]
    files = {(name, "artifact"): b"of " + name.encode() for name in names}
    files["log.txt", "artifact"], files["log.txt", "log"] = b"mine", b"the output"
    api.files = {key: (body, hashlib.sha256(body).hexdigest()) for key, body in files.items()}
    api.files["m", "artifact"] = (b"other than was kept", "0" * 64)
    target = clean / "d"
    code, _, err = teo("artifacts", EXE, "--download", str(target))
    assert (code, "sha256" in err, "1 of 11 artifacts" in err) == (3, True, True)
    found = sorted(each.name for each in target.iterdir())
    assert found == sorted({*(n.split("/")[0] for n in names), "log.txt", "log.txt~log"})
    assert (target / "log.txt").read_bytes() == b"mine"
    assert (target / "log.txt~log").read_bytes() == b"the output"
    assert (target / "z").read_bytes() == b"of z"
    with DownloadFolder(target) as folder, folder.file("deep/" * 1_500 + "y") as there:
        there.write(b"reached by names alone")
    code, out, _ = teo("artifacts", EXE, "--kind", "log", "-o", "name")
    assert (code, out) == (0, "log.txt\n")
    assert teo("artifacts", EXE, "--kind", "bogus")[0] == 2


def test_a_part_left_by_nobody_stays_and_a_folder_in_the_way_is_told(api, teo, tmp_path):
    api.files = {("a", "artifact"): (b"aa", hashlib.sha256(b"aa").hexdigest())}
    (tmp_path / "d" / "a" / "b").mkdir(parents=True)
    code, _, err = teo("artifacts", EXE, "--download", str(tmp_path / "d"))
    assert (code, "cannot be written" in err) == (2, True)
    assert [each.name for each in (tmp_path / "d").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cancels_the_run_and_waits(api, env, number, code):
    api.frames, api.is_endless = [lines(1, 1, "started")], True
    with spawn(env, "run", "--", "sleep", "1000") as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code
    assert f"{EXE} is cancelled".encode() in err
    assert api.was_asked("DELETE", f"/v1/executions/{EXE}")


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(api, env):
    """As under `nohup`, and in a script's background job: the run goes on."""
    api.frames, api.is_endless = [lines(1, 1, "started")], True
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = spawn(env, "run", "--", "sleep", "1000")
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 143


def test_a_second_signal_leaves_at_once(api, env):
    api.frames, api.is_endless, api.is_stubborn = [lines(1, 1, "started")], True, True
    with spawn(env, "run", "--", "sleep", "1000") as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        until(lambda: api.was_asked("DELETE", f"/v1/executions/{EXE}"), "the run is cancelled")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert time.monotonic() - began < CANCEL_WAIT_S / 2
    assert b"left while" in err


def test_a_signal_while_reserve_waits_gives_the_place_back(api, env):
    api.reservation = {**api.reservation, "status": "queued", "queue_position": 2, "benches": []}
    with spawn(env, "reserve", "--wait") as process:
        until(lambda: api.was_asked("GET", f"/v1/reservations/{RES}"), "reserve waits")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert api.was_asked("DELETE", f"/v1/reservations/{RES}")
    assert b"place 2" in err


def test_a_run_survives_a_restart_of_the_api(api, env):
    api.frames, api.is_endless = [lines(1, 1, "before")], True
    with spawn(env, "run", "--", "true") as process:
        assert process.stdout.readline() == b"before\n"
        api.stop()
        api.frames.append(lines(1, 2, "after"))
        api.is_endless = False
        api.start()
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (0, b"after\n")
    assert b"PASSED" in err


def test_an_outage_without_end_exits_9_and_says_how_to_go_on(api, env):
    api.frames, api.is_endless = [lines(1, 1, "before")], True
    with spawn({**env, "TEO_RECONNECT": "500ms"}, "run", "--", "true") as process:
        assert process.stdout.readline() == b"before\n"
        api.stop()
        try:
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            api.start()
    assert process.returncode == 9
    assert f"teo wait {EXE}".encode() in err


def test_a_reader_that_leaves_ends_the_run(api, env):
    api.frames = [lines(1, n, "x" * 100) for n in range(1, 3_000)]
    api.is_endless = True
    with spawn(env, "run", "--", "yes") as process:
        process.stdout.readline()
        process.stdout.close()
        process.wait(DEADLINE_S)
        err = process.stderr.read()
    assert process.returncode == 141
    assert b"Traceback" not in err
    assert api.was_asked("DELETE", f"/v1/executions/{EXE}")


@pytest.mark.parametrize(("no_color", "has_colour"), [(None, True), ("1", False)])
def test_a_terminal_gets_a_spinner_and_colours_unless_refused(api, env, no_color, has_colour):
    api.execution = execution(status="queued", queue_position=1)
    if no_color:
        env = {**env, "NO_COLOR": no_color}
    ours, theirs = pty.openpty()
    with spawn(env, "run", "true", stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        said = read_all(ours)
        assert process.wait(DEADLINE_S) == 0
    assert b"place 1 in the queue" in said
    assert (b"\x1b[32mPASSED" in said) == has_colour


def read_all(descriptor):
    said = b""
    try:
        while chunk := os.read(descriptor, 65_536):
            said += chunk
    except OSError:
        pass  # A terminal that everybody has left answers with an error, not with an end.
    os.close(descriptor)
    return said


def test_completion_knows_verbs_and_options(env):
    asked = {"_TEO_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    for words, expected in (("teo re", "reserve"), ("teo run --idle", "--idle-timeout")):
        given = {**env, **asked, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        with spawn(given) as process:
            out, _ = process.communicate(timeout=DEADLINE_S)
        assert expected in out.decode().split()
