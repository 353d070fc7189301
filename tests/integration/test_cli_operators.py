"""What operators do with `teo`, against a real HTTP server that plays the API."""

import json
import sys

import pytest

from cli.dlq import hex_dump
from cli.main import VERBS
from cli.root import build
from tests.unit.cli.fake_api import TOKEN, FakeApi, letter


@pytest.fixture
def api():
    fake = FakeApi()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def teo(api, tmp_path, monkeypatch, capsys):
    for name in ("TEO_CONTEXT", "TEO_POOL", "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEO_SERVER", api.url)
    monkeypatch.setenv("TEO_TOKEN", TOKEN)
    monkeypatch.setenv("TEO_CONFIG", str(tmp_path / "config.yaml"))

    def run(*args):
        with pytest.raises(SystemExit) as left:
            build(VERBS)(list(args), prog_name="teo")
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def put(api, *letters):
    api.letters = {each["id"]: each for each in letters}


def settled(api, number, verb):
    return api.bodies("POST", f"/v1/dead-letters/0-{number}/{verb}")


def test_the_list_shows_open_letters_and_chooses_others(api, teo):
    put(api, letter(1, status="replayed"), letter(2), letter(3), letter(4, error="x" * 200))
    code, out, _ = teo("dlq", "list", "-o", "name")
    assert (code, out.split()) == (0, ["0-2", "0-3", "0-4"])
    code, out, _ = teo("dlq", "list", "--status", "", "--pool", "lab-a", "--kind", "execution")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["LETTER", "0-1", "0-2", "0-3", "0-4"]
    assert max(map(len, out.splitlines())) < 200
    assert api.queries[-1]["pool"] == "lab-a"
    put(api)
    code, out, err = teo("dlq", "list")
    assert (code, out, err) == (0, "", "no open dead letters\n")


def test_show_tells_everything(api, teo):
    raw = bytes(range(40))
    put(
        api,
        letter(1),
        letter(
            2,
            kind="record",
            execution_id=None,
            value=None,
            undecodable="first byte is 9",
            value_hex=raw.hex(),
            size_bytes=50,
            stack="Traceback\n  deep\n\x1b[31mred",
        ),
        letter(3, is_cut=True, size_bytes=9_000_000, held_bytes=4_000_000, sha256="ab" * 32),
    )
    code, out, _ = teo("dlq", "show", "0-1")
    assert code == 0
    assert '"command": [' in out
    assert "provision_failed: no power" in out
    code, out, err = teo("dlq", "show", "0-2")
    assert "teo.commands, partition 0, offset 7" in out
    assert "00000010  10 11" in out
    assert "\x1b" not in out
    assert "first 40 bytes" in err
    assert "only the first" not in out
    code, out, _ = teo("dlq", "show", "0-3")
    assert f"only the first 4000000 bytes are here (sha256 of all: {'ab' * 32})" in out
    assert "no replay" in out
    code, _, err = teo("dlq", "show", "9-9")
    assert (code, "look again" in err) == (2, True)
    assert json.loads(teo("dlq", "show", "0-1", "-o", "json")[1])["id"] == "0-1"


def test_one_letter_is_replayed_without_a_question(api, teo):
    put(api, letter(1))
    code, _, err = teo("dlq", "replay", "0-1", "--reason", "power is back")
    assert (code, "exe-0190cc" in err) == (0, True)
    assert settled(api, 1, "replay") == [{"reason": "power is back", "force": False}]


def test_several_need_a_yes_and_one_that_is_refused_keeps_back_no_other(api, teo):
    put(api, letter(1), letter(2))
    code, _, err = teo("dlq", "replay", "0-1", "0-2")
    assert (code, "-y" in err) == (2, True)
    assert settled(api, 1, "replay") == []
    code, _, err = teo("dlq", "replay", "0-1", "9-9", "0-2", "-y", "--force")
    assert code == 2
    assert "look again" in err
    assert settled(api, 1, "replay") == settled(api, 2, "replay")
    assert settled(api, 2, "replay") == [{"reason": "", "force": True}]


def test_all_open_letters_go_back_oldest_first(api, teo):
    put(api, letter(3), letter(2, status="discarded"), letter(1))
    code, _, _ = teo("dlq", "replay", "--all", "--kind", "execution", "-y")
    assert code == 0
    paths = [path for method, path, _, _ in api.asked if method == "POST"]
    assert paths == ["/v1/dead-letters/0-1/replay", "/v1/dead-letters/0-3/replay"]
    assert api.queries[-1]["kind"] == "execution"
    code, _, err = teo("dlq", "replay", "--all", "-y")
    assert (code, err) == (0, "no open dead letters\n")


def test_discard_wants_a_reason(api, teo):
    put(api, letter(1), letter(2))
    assert teo("dlq", "discard", "0-1")[0] == 2
    code, out, _ = teo("dlq", "discard", "0-1", "0-2", "--reason", "noise", "-y", "-o", "json")
    assert (code, [item["status"] for item in json.loads(out)]) == (0, ["discarded"] * 2)
    assert settled(api, 1, "discard") == [{"reason": "noise"}]


@pytest.mark.parametrize(
    "arguments",
    [["replay"], ["replay", "0-1", "--all"], ["replay", "0-1", "--kind", "record"]],
)
def test_it_must_be_clear_which_letters(api, teo, arguments):
    put(api, letter(1))
    assert teo("dlq", *arguments)[0] == 2
    assert settled(api, 1, "replay") == []


def test_a_no_changes_nothing(api, teo, monkeypatch):
    put(api, letter(1), letter(2))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, _, err = teo("dlq", "replay", "--all")
    assert (code, "nothing was changed" in err) == (4, True)
    assert settled(api, 1, "replay") == []


def test_a_hex_dump_is_aligned():
    assert list(hex_dump(b"0123456789abcdef\n")) == [
        "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef",
        "00000010  0a                                               .",
    ]


def worker(name, **given):
    return {
        "worker": name,
        "pool": "lab-a",
        "epoch": 3,
        "state": "online",
        "adapters": ["local", "mock"],
        "benches": [],
        "slots": 4,
        "slots_used": 1,
        "version": "1",
        "since": "2026-01-01T00:00:00Z",
        "reason": "",
        "life": "019b8d99-93f8-762b-a2f4-0a1b5ffa02d1",
        "host": "rack-1 (pid 7)",
        "refused": None,
        **given,
    }


def test_workers_are_listed_with_their_slots_and_reason(api, teo):
    api.workers = [worker("w-1"), worker("w-2", state="lost", reason="silent for 10 s")]
    code, out, _ = teo("worker", "list")
    assert code == 0
    _, first, second = out.splitlines()
    assert first.split()[:5] == ["w-1", "lab-a", "online", "3", "5ffa02d1"]
    assert first.split()[5:11] == ["rack-1", "(pid", "7)", "1/4", "local,mock", "any"]
    assert second.endswith("silent for 10 s")


def test_a_process_that_was_refused_is_noted_beside_the_worker_that_has_the_id(api, teo):
    refused = {"host": "rack-2 (pid 9)", "reason": "rack-1 has it", "at": "2026-01-01T00:00:00Z"}
    api.workers = [worker("w-1", refused=refused), worker("w-2")]
    code, out, err = teo("worker", "list")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "w-1: a process on rack-2 (pid 9) asked for this id" in err
    assert "give that one another --id" in err
    assert "w-2" not in err
    code, out, _ = teo("worker", "show", "w-1")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["HOST"].endswith("rack-1 (pid 7)")
    assert "rack-2 (pid 9)" in lines["REFUSED"]
    code, out, _ = teo("worker", "show", "w-1", "-o", "json")
    assert json.loads(out)["refused"] == refused
    code, _, err = teo("worker", "show", "w-9")
    assert (code, "there is no worker w-9" in err) == (2, True)


def test_a_worker_is_drained_in_its_pool(api, teo):
    api.workers = [worker("w-1")]
    code, _, err = teo("worker", "drain", "w-1", "--reason", "new disk")
    said, _, way_back = err.partition("\n")
    assert (code, said) == (0, "w-1 is draining; it still runs 1")
    assert "`docker compose restart worker`" in way_back
    path = "/v1/pools/lab-a/workers/w-1/drain"
    assert api.bodies("POST", path) == [{"reason": "new disk"}]
    code, _, err = teo("worker", "drain", "w-9")
    assert (code, "teo worker list" in err) == (2, True)
    api.workers.append(worker("w-1", pool="lab-b"))
    code, _, err = teo("worker", "drain", "w-1")
    assert (code, "lab-a, lab-b" in err) == (2, True)
    assert len(api.bodies("POST", path)) == 1


def test_drain_waits_until_the_worker_is_gone(api, teo):
    api.workers = [worker("w-1")]
    code, out, _ = teo("worker", "drain", "w-1", "--wait", "-o", "json")
    assert (code, json.loads(out)["state"]) == (0, "gone")
    api.workers, api.is_stubborn = [worker("w-1")], True
    code, _, err = teo("worker", "drain", "w-1", "--wait", "--timeout", "100ms")
    assert (code, "still runs 1" in err) == (7, True)


def test_a_suspended_worker_is_shown_with_its_reason_and_resumed(api, teo):
    api.is_stubborn = True
    api.workers = [worker("w-1", state="suspended", reason="5 attempts in a row; mend it")]
    code, out, _ = teo("worker", "show", "w-1", "--pool", "lab-a")
    assert code == 0
    assert "suspended" in out
    assert "5 attempts in a row; mend it" in out
    code, _, err = teo("worker", "resume", "w-1", "--reason", "new disk")
    assert (code, err.strip()) == (0, "w-1 is online")
    assert api.bodies("POST", "/v1/pools/lab-a/workers/w-1/resume") == [{"reason": "new disk"}]
    code, _, err = teo("worker", "resume", "w-9")
    assert (code, "teo worker list" in err) == (2, True)


def test_apply_waits_a_moment_for_what_the_adapters_say(api, teo, tmp_path):
    file = tmp_path / "benches.yaml"
    file.write_text("pool: lab-a\nbenches: [{name: b1, adapter: local, config: {directry: /x}}]\n")
    api.workers = [worker("w-1")]
    api.as_applied = {"state": "offline", "reason": "no worker has served it yet"}
    why = "refused by worker w-1: the local adapter knows no config directry (invalid_config)"
    api.benches = [
        {"pool": "lab-a", "name": "b1", "adapter": "local", "state": "offline", "reason": why}
    ]
    code, out, _ = teo("bench", "apply", "-f", str(file))
    assert code == 0
    assert why in out


def test_an_empty_list_of_a_pool_that_is_not_there_says_so(api, teo):
    put(api)
    code, out, err = teo("dlq", "list", "--pool", "lab-b")
    assert (code, out) == (6, "")
    assert "there is no pool lab-b" in err
    assert "teo pool list" in err
    assert teo("dlq", "list", "--pool", "lab-a")[0] == 0


def test_a_size_that_is_out_of_range_is_told_as_people_write_it(teo):
    code, _, err = teo("run", "--memory-max", "5", "--", "true")
    assert code == 2
    assert "--memory-max 5 B" in err
    assert "from 1 MiB to 1024 TiB" in err
