"""The installed `teo`, as a person and a script use it: one system, many commands, real kills."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import BENCHES, Lab, until

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(200)]

FIELDS = [
    "id",
    "pool",
    "status",
    "verdict",
    "reason",
    "created_at",
    "finished_at",
    "bench",
    "attempts",
]  # What scripts rely on.
ATTEMPT_FIELDS = [
    "number",
    "bench",
    "worker",
    "status",
    "verdict",
    "reason",
    "started_at",
    "finished_at",
]


def test_a_run_streams_its_output_and_passes(lab: Lab) -> None:
    done = lab.teo("run", "-l", "board=rpi4", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "err" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-l", "board=rpi4", "--", "false"], 1),
        (["-l", "board=rpi4", "--", "no-such-program"], 1),
        (["-l", "board=rpi4", "--timeout", "1s", "--", "sleep", "60"], 5),
        (["-l", "board=rpi4", "--idle-timeout", "1s", "--", "sleep", "60"], 5),
        (["-l", "board=none", "--", "true"], 6),
        (["--pool", "nowhere", "--", "true"], 6),
        (["-l", "board=broken", "--retries", "0", "--", "true"], 3),
        (["-l", "board=mock", "--", "true"], 1),
        (["-l", "a b", "--", "true"], 2),
        (["--timeout", "soon", "--", "true"], 2),
        (["--nonsense", "--", "true"], 2),
    ],
)
def test_exit_codes_of_run(lab: Lab, arguments: list[str], code: int) -> None:
    done = lab.teo("run", *arguments)
    assert done.returncode == code, done.stderr
    assert code == 0 or done.stderr.strip(), "it says why"


def test_the_json_of_an_execution_has_what_scripts_rely_on(lab: Lab) -> None:
    execution_id = lab.ok("run", "--detach", "-l", "board=rpi4", "--", "true")
    assert lab.teo("wait", execution_id).returncode == 0
    execution = lab.execution(execution_id)
    assert not FIELDS - execution.keys()
    assert not ATTEMPT_FIELDS - execution["attempts"][0].keys()
    assert (execution["status"], execution["verdict"]) == ("finished", "passed")


def test_cases_artifacts_and_logs_are_kept(lab: Lab, tmp_path: Path) -> None:
    script = (
        "mkdir -p out; echo data > out/a.txt; echo line-1; echo line-2;"
        'echo \'<testsuite name="s"><testcase classname="c" name="n"/></testsuite>\' > j.xml'
    )
    flags = ["--junit", "j.xml", "--artifact", "out/*.txt"]
    execution_id = lab.ok("run", "--detach", "-l", "board=rpi4", *flags, "--", "sh", "-c", script)
    assert lab.teo("wait", execution_id).returncode == 0
    assert "c::n" in lab.ok("results", execution_id).replace(" ", "")
    assert "<testcase" in lab.ok("results", execution_id, "-o", "junit")
    assert lab.ok("logs", execution_id) == "line-1\nline-2"
    assert lab.ok("logs", execution_id, "--since-line", "2") == "line-2"
    lab.ok("artifacts", execution_id, "--download", str(tmp_path))
    assert [path.read_text() for path in tmp_path.rglob("a.txt")] == ["data\n"]


def test_a_failed_test_is_tried_again_if_asked_and_called_flaky(lab: Lab) -> None:
    script = (
        'test "$TEO_ATTEMPT" -gt 1 && bad= || bad="<failure/>"; echo "attempt $TEO_ATTEMPT";'
        "echo \"<testsuite name='s'><testcase classname='c' name='n'>$bad</testcase></testsuite>\""
        ' > j.xml; test -z "$bad"'
    )
    flags = ["-l", "board=rpi4", "--junit", "j.xml"]
    once = lab.teo("run", *flags, "--", "sh", "-c", script)
    assert (once.returncode, once.stdout) == (1, "attempt 1\n")
    twice = lab.teo("run", *flags, "--retries-on-failure", "2", "--", "sh", "-c", script)
    assert (twice.returncode, twice.stdout) == (0, "attempt 1\nattempt 2\n"), twice.stderr
    assert "flaky" in twice.stderr
    newest = lab.json("status")[0]["id"]
    execution = lab.execution(newest)
    assert (execution["verdict"], execution["is_flaky"]) == ("passed", True)
    assert [each["verdict"] for each in execution["attempts"]] == ["failed", "passed"]
    assert "flaky" in lab.ok("results", newest)


@pytest.mark.parametrize(
    ("flags", "exit_code", "failure", "code", "said"),
    [
        ([], 0, "<failure/>", 1, "1 of 1 cases failed; the report decided"),
        ([], 3, "", 1, "exit code 3; 1 cases, none failed; the exit code decided"),
        (["--verdict", "exit-code"], 0, "<failure/>", 0, "1 of 1 cases failed; the exit code"),
        (["--verdict", "report"], 3, "", 0, "exit code 3; the report decided"),
        ([], 0, "<flakyFailure message='late'/>", 0, "1 flaky: failed, was run again and passed"),
        ([], 0, "<failure/><broken", 1, "cannot be read"),
    ],
)
def test_exit_code_and_report_decide_as_asked(
    lab: Lab, flags: list[str], exit_code: int, failure: str, code: int, said: str
) -> None:
    case = f'<testsuite name="s"><testcase classname="c" name="n">{failure}</testcase></testsuite>'
    script = f"echo '{case}' > j.xml; exit {exit_code}".replace("='late'", '="late"')
    done = lab.teo("run", "-l", "board=rpi4", "--junit", "j.xml", *flags, "--", "sh", "-c", script)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    newest = lab.json("status")[0]["id"]
    assert lab.execution(newest)["verdict_by"] == (flags[-1] if flags else "both")
    assert ("flaky" in lab.ok("results", newest)) == ("flaky" in failure)


def test_a_reservation_lives_and_runs_inside_it(lab: Lab) -> None:
    reservation = lab.ok("reserve", "-l", "site=muc", "--duration", "5m", "-o", "name")
    lab.ok("extend", reservation, "--duration", "5m")
    done = lab.teo("run", "--reservation", reservation, "--", "sh", "-c", "echo $TEO_BENCH")
    assert (done.returncode, done.stdout) == (0, "bench-1\n")
    waiting = lab.teo("reserve", "-l", "site=muc", "--wait-timeout", "1s")
    assert waiting.returncode == 7
    lab.ok("release", reservation)
    twice = lab.teo("release", reservation)
    assert twice.returncode != 0
    assert "released" in twice.stderr


def test_cancel_frees_the_bench(lab: Lab) -> None:
    execution_id = lab.ok("run", "--detach", "-l", "site=muc", "--", "sleep", "600")
    until(lambda: lab.execution(execution_id)["status"] == "running", "it runs")
    lab.ok("cancel", execution_id)
    assert lab.teo("wait", execution_id).returncode == 4
    assert lab.teo("run", "-l", "site=muc", "--wait-timeout", "30s", "--", "true").returncode == 0


def test_control_c_cancels_and_exits_130(lab: Lab) -> None:
    process = lab.start("run", "-l", "site=muc", "--", "sh", "-c", "echo go; sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    newest = lab.json("status")[0]
    assert (newest["status"], newest["verdict"]) == ("finished", "cancelled")


def test_a_killed_worker_costs_an_attempt_and_not_the_execution(lab: Lab) -> None:
    script = "if [ $TEO_ATTEMPT = 1 ]; then sleep 600; fi; echo second"
    execution_id = lab.ok("run", "--detach", "-l", "board=rpi4", "--", "sh", "-c", script)
    until(lambda: lab.execution(execution_id)["status"] == "running", "it runs")
    lab.kill("worker")
    assert lab.teo("wait", execution_id).returncode == 0
    execution = lab.execution(execution_id)
    assert [each["verdict"] for each in execution["attempts"]] == ["error", "passed"]
    assert "worker" in execution["attempts"][0]["reason"]
    until(
        lambda: all(b["state"] == "idle" for b in lab.json("bench", "list", "--pool", "lab-a")),
        "all benches are free again",
    )


def test_clients_outlive_a_killed_api_and_a_killed_scheduler(lab: Lab) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done"
    process = lab.start("run", "-l", "board=rpi4", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    lab.kill("api")
    lab.kill("scheduler")
    rest, notes = process.communicate(timeout=120)
    assert process.returncode == 0, notes
    assert rest.split() == list("2345678"), "each line once, in order"


def apply_rule(lab: Lab, rule: str) -> None:
    done = lab.teo("bench", "apply", "-f", "-", stdin=f"{BENCHES}health: {rule}")
    assert done.returncode == 0, done.stderr


def test_a_sick_bench_is_taken_out_and_can_be_restored(lab: Lab) -> None:
    apply_rule(lab, "{errors_max: 1, window: 1h}")
    (pool,) = (each for each in lab.json("pool", "list") if each["pool"] == "lab-a")
    assert pool["health"] == {"errors_max": 1, "window_s": 3600.0}
    for _ in range(2):
        lab.ok("run", "--detach", "-l", "board=broken", "--retries", "0", "--", "true")
    bench = until(
        lambda: (b := lab.json("bench", "show", "bench-4"))["state"] == "quarantined" and b,
        "the broken bench in quarantine",
    )
    assert bench["quarantined_by"] == "watcher:bench_health"
    assert "no power" in bench["reason"]
    shown = lab.ok("bench", "show", "bench-4")
    assert "watcher:bench_health" in shown
    assert "no power" in shown
    lab.ok("bench", "restore", "bench-4")
    assert lab.json("bench", "show", "bench-4")["quarantined_by"] is None
    apply_rule(lab, "{errors_max: 3, window: 10m}")


def test_the_event_stream_tells_what_happened(lab: Lab) -> None:
    execution_id = lab.ok("run", "--detach", "-l", "board=rpi4", "--", "true")
    lab.ok("wait", execution_id)
    process = lab.start(
        *("events", "tail", "--type", "ExecutionFinished", "--from", "beginning", "-o", "json")
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if execution_id in line:
                break
        else:
            pytest.fail("the event never came")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_dead_letters_are_found_put_back_once_and_discarded(lab: Lab) -> None:
    failed = lab.teo("run", "-l", "board=broken", "--retries", "0", "--", "true")
    assert failed.returncode == 3
    execution = lab.json("status", "--limit", "1")[0]["id"]

    def letter() -> Any:
        found = lab.json("dlq", "list", "--kind", "execution")
        return next((each for each in found if each["execution_id"] == execution), None)

    found = until(letter, "the execution is a dead letter")
    shown = lab.ok("dlq", "show", found["id"])
    assert "no power" in shown
    assert '"SubmitExecution"' in shown
    first = lab.json("dlq", "replay", found["id"], "--reason", "to see")[0]
    again = lab.json("dlq", "replay", found["id"])[0]
    assert first["new_execution_id"] == again["new_execution_id"] != execution
    assert (first["is_put_back"], again["is_put_back"], again["replays"]) == (True, False, 2)
    assert lab.teo("wait", first["new_execution_id"]).returncode == 3
    until(
        lambda: [
            each
            for each in lab.json("dlq", "list")
            if each["execution_id"] == first["new_execution_id"]
        ],
        "it failed again, and is a dead letter again",
    )
    lab.ok("dlq", "discard", "--all", "--reason", "the bench is broken", "-y")
    assert lab.json("dlq", "list") == []
    unknown = lab.teo("dlq", "replay", "0-999999")
    assert (unknown.returncode, "teo dlq list" in unknown.stderr) == (2, True)


def test_workers_are_listed(lab: Lab) -> None:
    listed = lab.json("worker", "list", "--state", "online,draining")
    (worker,) = (each for each in listed if each["pool"] == "lab-a")
    assert (worker["pool"], worker["slots"]) == ("lab-a", 8)
    assert lab.teo("worker", "drain", "nobody").returncode == 2


def test_a_killed_kafka_is_started_again_and_the_facts_are_there(lab: Lab) -> None:
    before = lab.ok("run", "--detach", "-l", "board=rpi4", "--", "true")
    assert lab.teo("wait", before).returncode == 0
    lab.kill_kafka()
    log = lab.folder / "data" / "logs" / "up.log"
    until(lambda: "Kafka is up again" in log.read_text(), "Kafka is started again")
    done = lab.teo("run", "-l", "board=rpi4", "--", "echo", "after")
    assert (done.returncode, done.stdout) == (0, "after\n"), done.stderr
    assert lab.execution(before)["verdict"] == "passed"


def test_the_state_file_names_the_process_that_a_role_has_now(lab: Lab) -> None:
    def epoch() -> int:
        (worker,) = lab.json("worker", "list", "--pool", "lab-a")
        return int(worker["epoch"])

    def idle() -> set[tuple[str, str]]:
        found = lab.json("bench", "list")
        return {(each["pool"], each["name"]) for each in found if each["state"] == "idle"}

    # The lab is that of other files too: some left benches that are out.
    before, life_before, idle_before = lab.up["roles"]["worker"], epoch(), idle()
    lab.kill("worker")
    until(lambda: lab.up["roles"]["worker"] != before, "the file names the new worker")
    (now,) = lab.pids("worker")
    assert lab.up["roles"]["worker"] == now
    until(lambda: epoch() > life_before, "its life is registered")
    assert idle_before
    until(lambda: idle_before <= idle(), "it took the benches")
