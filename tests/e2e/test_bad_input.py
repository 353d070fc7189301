"""Bad input, at the installed `teo` and at its API: named, with a next step, without effect."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Lab

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(200)]

NOBODYS_EXE = "exe-0190aaaaaaaa7aaaaaaaaaaaaaaaaaaa"
NOBODYS_RES = "res-0190aaaaaaaa7aaaaaaaaaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nonsense"], 2, ["nonsense", "teo -h"]),
        (["bench", "list", "--nonsense"], 2, ["--nonsense", "-h"]),
        (["run", "-l", "a b", "--", "true"], 2, ["'a b'", "k=v"]),
        (["run", "-l", "", "--", "true"], 2, ["-l is empty", "k=v"]),
        (["reserve", "--with", "k in (a"], 2, ["'k in (a'", "k in (a,b)"]),
        (["reserve", "--duration", "10"], 2, ["'10' has no unit", "10s"]),
        (["reserve", "--duration", "0s"], 2, ["'0s'", "longer than nothing"]),
        (["reserve", "--duration", "360d"], 2, ["duration_s", "30 days"]),
        (["run", "--idle-timeout", "soon", "--", "true"], 2, ["'soon'", "2h30m"]),
        (["run", "--retries", "11", "--", "true"], 2, ["retries", "10"]),
        (["run", "--env", "A B=1", "--", "true"], 2, ["'A B'", "letters"]),
        (["run", "--env", "TEO_BENCH=x", "--", "true"], 2, ["TEO_BENCH", "another name"]),
        (["run", "--artifact", "../*", "--", "true"], 2, ["'../*'", "climbs out of the workspace"]),
        (["run", "--junit", "/etc/*", "--", "true"], 2, ["'/etc/*'", "below it"]),
        (["run", "--pool", "no/pool", "--", "true"], 2, ["'no/pool'", "letters"]),
        (["run", "--pool", "nowhere", "--", "true"], 6, ["nowhere", "teo pool list"]),
        (["run", "-l", "board=z80", "--", "true"], 6, ["board=z80", "teo bench list"]),
        (["status", "--status", "bogus"], 2, ["'bogus'", "tearing_down"]),
        (["bench", "list", "--state", "bogus"], 2, ["'bogus'", "quarantined"]),
        (["status", "-o", "xml"], 2, ["xml", "yaml"]),
        (["status", NOBODYS_EXE], 2, [NOBODYS_EXE, "teo status"]),
        (["logs", NOBODYS_EXE, "-f"], 2, [NOBODYS_EXE, "teo status"]),
        (["wait", NOBODYS_EXE], 2, [NOBODYS_EXE, "teo status"]),
        (["cancel", NOBODYS_EXE], 2, [NOBODYS_EXE, "teo status"]),
        (["release", NOBODYS_RES], 2, [NOBODYS_RES, "teo reservations"]),
        (["release", NOBODYS_EXE], 2, [NOBODYS_EXE, "res-"]),
        (["run", "--reservation", NOBODYS_RES, "--", "true"], 2, [NOBODYS_RES, "reservations"]),
        (["bench", "show", "nope"], 2, ["nope", "teo bench list"]),
        (["status", "--token", "wrong"], 10, ["TEO_TOKEN"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_what_is_refused_is_named(
    lab: Lab, arguments: list[str], code: int, said: list[str]
) -> None:
    before = lab.state()
    done = lab.teo(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert lab.state() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pool: lab-a\nbenches:\n  - name: b\n   labels: {", [":4", "no YAML"]),
        ("pool: lab-a\nbenchs: []", [":2", "'benchs'", "'benches'"]),
        ("pool: lab-a\nbenches: [{name: b, adapter: mock, labels: [a]}]", ["mapping", "list"]),
        ("pool: lab-a\nbenches: [{name: b 1, adapter: mock}]", ["'b 1' is no name", "letters"]),
        (
            "pool: lab/a\nbenches: [{name: b, adapter: mock}]",
            [":1", "'lab/a' is no name of a pool"],
        ),
        ("pool: ..\nbenches: [{name: b, adapter: mock}]", [":1", "'..' is no name of a pool"]),
        (
            "pool: lab-a\nbenches:\n  - {name: b, adapter: mock, labels: {'a b': c}}",
            [":3", "'a b' is no name of a label"],
        ),
        ("pool: lab-a\nbenches: [{adapter: mock}]", ["'name' is missing"]),
        (
            "pool: lab-a\nbenches:\n"
            + "".join(f"- {{name: b{n}, adapter: mock}}\n" for n in range(501)),
            [":503", "501 benches, 500 allowed", "another document"],
        ),
        (
            "pool: lab-a\nhealth: {errors_max: 1001, window: 1h}\nbenches: [{name: b, adapter: m}]",
            [":2", "1001 is more than 1000"],
        ),
        (
            "pool: lab-a\nbenches:\n- {name: b, adapter: mock, steps: {collect: {timeout: 2d}}}",
            [":3", "timeout is 2d, at most 1d"],
        ),
        (
            "pool: lab-a\nbenches:\n- name: b\n  adapter: mock\n  steps: {collect: {retries: 11}}",
            [":5", "11 is more than 10"],
        ),
        ("pool: lab-a\nbenches: []", ["no benches", "at least one"]),
        ("", ["nothing in it"]),
    ],
)
def test_a_bench_file_is_checked_whole(lab: Lab, text: str, said: list[str]) -> None:
    before = lab.state()
    good = "pool: lab-a\nbenches: [{name: good, adapter: mock}]\n---\n" if text else ""
    lines = [f":{int(word[1:]) + 3}" if word[:1] == ":" else word for word in said]
    done = lab.teo("bench", "apply", "-f", "-", stdin=good + text)
    assert done.returncode == 2
    for words in lines:
        assert words in done.stderr
    assert lab.state() == before


def test_a_bench_that_cannot_work_says_why(lab: Lab) -> None:
    file = (
        "pool: lab-c\nbenches:\n"
        "  - {name: typo, labels: {n: typo}, adapter: lokal}\n"
        "  - {name: config, labels: {n: config}, adapter: local, config: {foo: 3}}\n"
    )
    done = lab.teo("bench", "apply", "-f", "-", stdin=file)
    assert done.returncode == 0
    run = ("run", "--pool", "lab-c", "-l", "n=config", "--wait-timeout", "5s", "--", "true")
    lab.teo(*run)  # A worker serves the pool.
    done = lab.teo("bench", "apply", "-f", "-", stdin=file)
    assert "typo: no worker has the adapter 'lokal'" in done.stderr
    done = lab.teo(*run)
    assert done.returncode == 7, "refused before a run meets it"
    assert "knows no config foo" in done.stderr


def test_a_reservation_of_another_cannot_be_touched(lab: Lab) -> None:
    reservation = lab.ok("reserve", "-l", "site=ber", "-o", "name")
    before = lab.state()
    as_bob = ["--server", lab.server, "--token", lab.bobs_token]
    for verb in (
        ["release", reservation],
        ["extend", reservation, "--duration", "5m"],
        ["run", "--reservation", reservation, "--", "true"],
        ["bench", "quarantine", "bench-1", "--pool", "lab-a", "--reason", "x"],
    ):
        done = lab.teo(*as_bob, *verb)
        assert done.returncode == 6, (verb, done.stderr)
        assert "ann" in done.stderr or "bob" in done.stderr
    assert lab.state() == before
    lab.ok("release", reservation)
    again = lab.teo("release", reservation)
    assert again.returncode == 2
    assert f"{reservation} is over: it was released" in again.stderr


@pytest.mark.parametrize(
    ("flags", "script", "code", "said"),
    [
        ([], "no-such-program", 1, ["'no-such-program'", "PATH"]),
        ([], "/etc/passwd", 1, ["'/etc/passwd'", "not executable"]),
        (["--junit", "j.xml"], "echo no xml > j.xml", 1, ["'j.xml' cannot be read"]),
        (["--junit", "j.xml"], "BOMB", 1, ["'j.xml' cannot be read", "entities"]),
        (["--junit", "none.xml"], "true", 1, ["'none.xml' not kept: no file matches"]),
        (["--junit", "none.xml", "--verdict", "exit-code"], "true", 0, ["no file matches"]),
        (["--artifact", "x"], "ln -s /etc/passwd x", 0, ["'x' not kept", "out of the workspace"]),
    ],
)
def test_what_a_test_leaves_behind(
    lab: Lab, flags: list[str], script: str, code: int, said: list[str]
) -> None:
    bomb = '<!DOCTYPE b [<!ENTITY a "aa"><!ENTITY b "&a;&a;&a;">]><testsuite name="&b;"/>'
    script = script.replace("BOMB", f"echo '{bomb}' > j.xml")
    command = ["sh", "-c", script] if " " in script else [script]
    done = lab.teo("run", "-l", "board=rpi4", *flags, "--", *command)
    assert done.returncode == code, done.stderr
    for words in said:
        assert words in done.stderr
    execution = lab.json("status", "--limit", "1")[0]["id"]
    assert len(lab.execution(execution)["attempts"]) == 1, "the tests' fault is not tried again"


def test_bytes_that_are_no_text_arrive_as_replacement_characters(lab: Lab) -> None:
    done = lab.teo("run", "-l", "board=rpi4", "--", "printf", r"a\377\376b\nc\n")
    assert (done.returncode, done.stdout) == (0, "a\ufffd\ufffdb\nc\n")


def test_a_body_of_ten_megabytes_is_refused(lab: Lab) -> None:
    before = lab.state()
    token = (lab.folder / "data" / "token").read_text()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"run": {"command": ["x" * 10_000_000]}}).encode()
    status, kind, answer = lab.ask("POST", "/v1/executions", body, **headers)
    assert (status, kind) == (413, "application/problem+json")
    assert "10000" in json.loads(answer)["detail"]
    assert lab.state() == before


def test_every_call_needs_a_token(lab: Lab) -> None:
    for path in (
        *("/v1/executions", "/v1/events", "/v1/benches", "/v1/pools", "/v1/workers", "/v1/whoami"),
        *(f"/v1/executions/{NOBODYS_EXE}/logs", f"/v1/commands/{NOBODYS_EXE}", "/ui/overview"),
        *("/subjects", "/schemas/ids/1", f"/executions/{NOBODYS_EXE}"),
    ):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "teo_token=wrong"}):
            assert lab.ask("GET", path, **headers)[0] == 401, path


def test_secrets_are_for_their_owner_and_all_ports_for_this_machine(lab: Lab) -> None:
    data = lab.folder / "data"
    for secret in (data / "tokens.json", lab.folder / "config" / "config.yaml"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    pids = json.loads((data / "up.json").read_text())["roles"].values()
    assert listening(pids) <= {"0100007F", "00000000000000000000000001000000"}


def listening(pids: Any) -> set[str]:
    """Return the addresses that processes listen on, as the kernel writes them."""
    sockets = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(str(file.readlink()))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found
