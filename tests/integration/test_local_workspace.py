"""What the local adapter gives a test, takes from it, and refuses."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import (
    AdapterError,
    Bench,
    CannotStart,
    Handle,
    InvalidHandle,
)
from adapters.folders import remove_tree
from adapters.local.place import Place, place_of
from adapters.local.workspace import Workspace
from tests.integration.local_bench import Local
from tests.integration.trees import DEADLINE_S, ON_LINUX

pytestmark = [pytest.mark.kill, ON_LINUX]


def test_the_environment_is_the_contract_s_and_holds_no_secret(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEO_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DISPLAY_OF_BENCH", ":7")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    attempt = local.attempt(
        sys.executable,
        "-c",
        code,
        env={"TEO_DEADLINE": "soon", "MINE": "1"},
        config={"pass_env": ["DISPLAY_*"]},
    )
    local.play(attempt)
    env = json.loads(local.text()[0])
    place = place_of(local.handle)
    assert env["TEO_EXECUTION_ID"] == local.execution_id
    assert (env["TEO_ATTEMPT"], env["TEO_FENCE"], env["TEO_BENCH"]) == ("1", "3", "bench-1")
    assert env["TEO_ARTIFACTS_DIR"] == str(place.artifacts)
    assert (env["TEO_DEADLINE"], env["MINE"], env["DISPLAY_OF_BENCH"]) == ("soon", "1", ":7")
    assert "PATH" in env
    assert not {"TEO_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(env)


def test_what_leads_out_of_the_workspace_is_refused_by_name(local: Local) -> None:
    script = """
mkdir out && echo good > out/good.bin
ln -s /etc/hostname out/host.bin
ln -s good.bin out/link.bin
ln -s / out/root
mkfifo out/pipe.bin
echo kept > $TEO_ARTIFACTS_DIR/kept
"""
    local.play(local.attempt("sh", "-ec", script, artifacts=("out/**/*.bin",)))
    found = {file.path for file in local.collected.found}
    assert found == {"artifacts/kept", "out/good.bin", "out/link.bin"}
    refused = {file.path: file.code for file in local.collected.refused}
    assert refused == {"out/host.bin": "outside_workspace", "out/pipe.bin": "not_a_file"}


def test_a_junit_glob_that_matches_nothing_is_told(local: Local) -> None:
    local.play(local.attempt("true", junit=("report.xml", "more/*.xml")))
    (told,) = local.collected.refused
    assert (told.path, told.code) == ("report.xml, more/*.xml", "no_match")
    local.play(local.attempt("touch", "report.xml", junit=("report.xml", "more/*.xml")))
    assert local.collected.refused == ()


def test_a_bench_directory_gives_new_files_only_and_stays(local: Local, tmp_path: Path) -> None:
    rig = tmp_path / "rig"
    rig.mkdir()
    (rig / "old.xml").write_text("<testsuite/>")
    os.utime(rig / "old.xml", (1, 1))
    attempt = local.attempt(
        "sh",
        "-c",
        "pwd; echo x > new.xml; echo y > $TEO_ARTIFACTS_DIR/y",
        config={"directory": str(rig)},
        junit=("*.xml",),
    )
    local.play(attempt)
    assert local.text() == [str(rig)]
    assert [(file.kind, file.path) for file in local.collected.found] == [
        ("artifact", "artifacts/y"),
        ("junit", "new.xml"),
    ]
    assert sorted(path.name for path in rig.iterdir()) == ["new.xml", "old.xml"]


def test_a_bench_directory_gives_new_files_only_whatever_the_clock_did(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was ahead when the old report was written, or was set back while the test ran."""
    rig = tmp_path / "rig"
    rig.mkdir()
    (rig / "old.xml").write_text("<testsuite/>")
    (rig / "again.xml").write_text("<testsuite/>")
    script = "echo x > new.xml; echo x > again.xml"
    made = Workspace.__init__

    for hours in (-2, 2):

        def set_clock(
            self: Workspace, place: Place, *more: Any, by_ns: int = hours * 3_600 * 10**9
        ) -> None:
            made(self, place, *more)
            self._made_ns += by_ns

        monkeypatch.setattr(Workspace, "__init__", set_clock)
        local.play(
            local.attempt("sh", "-c", script, config={"directory": str(rig)}, junit=("*.xml",))
        )
        assert [file.path for file in local.collected.found] == ["again.xml", "new.xml"]


def test_a_copied_folder_is_used_up_and_its_old_reports_are_no_evidence(
    local: Local, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "suite.sh").write_text("echo '<testsuite/>' > fresh.xml; rm stays\n")
    (source / "stale.xml").write_text("<testsuite/>")
    (source / "stays").write_text("")
    attempt = local.attempt("sh", "suite.sh", config={"copy": str(source)}, junit=("*.xml",))
    assert local.play(attempt).code == 0
    assert [file.path for file in local.collected.found] == ["fresh.xml"]
    assert (source / "stays").exists()
    assert not place_of(local.handle).folder.exists()


def test_a_folder_that_is_too_deep_to_be_copied_is_refused_and_costs_nothing(
    local: Local, tmp_path: Path
) -> None:
    deep = str(tmp_path / "source")
    for _ in range(700):
        os.mkdir(deep)  # noqa: PTH102 - pathlib and makedirs recurse.
        deep += "/d"
    attempt = local.attempt("true", config={"copy": str(tmp_path / "source")})
    try:
        with pytest.raises(AdapterError, match="too deep to be copied") as caught:
            asyncio.run(local.adapter.provision(attempt))
        assert (caught.value.code, caught.value.retriable) == ("copy_too_big", False)
        handle = local.adapter.handle_for(attempt.id, attempt.bench)
        asyncio.run(local.adapter.teardown(handle))
        assert not place_of(handle).folder.exists()
    finally:
        remove_tree(tmp_path / "source")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), "no such program in PATH"),
        (("./none",), "No such file"),
        (("./plain",), "not executable"),
        (("./garbage",), "not a program"),
        (("./script",), "interpreter"),
    ],
)
def test_a_command_that_cannot_start_says_why(
    local: Local, tmp_path: Path, command: tuple[str, ...], words: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "script").write_text("#!/no/such/interpreter\n")
    (source / "script").chmod(0o755)
    (source / "plain").write_text("text")
    (source / "plain").chmod(0o644)
    (source / "garbage").write_text("text")
    (source / "garbage").chmod(0o755)
    attempt = local.attempt(*command, config={"copy": str(source)})
    with pytest.raises(CannotStart, match=words) as caught:
        local.play(attempt)
    assert repr(command[0]) in str(caught.value)


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (("echo", "a\0b"), {}),
        (("echo", "\ud800"), {}),
        (("echo",), {"A": "a\0B=b"}),
        (("echo",), {"A=B": "c"}),
        (("echo",), {"": "c"}),
    ],
)
def test_what_no_process_can_be_given_is_refused(
    local: Local, command: tuple[str, ...], env: dict[str, str]
) -> None:
    with pytest.raises(CannotStart, match="cannot start 'echo'"):
        local.play(local.attempt(*command, env=env))
    assert local.lines == []


def test_a_folder_that_is_gone_is_the_lab_s_fault(local: Local, tmp_path: Path) -> None:
    attempt = local.attempt("true", config={"directory": str(tmp_path / "none")})
    with pytest.raises(AdapterError) as caught:
        local.play(attempt)
    assert caught.value.code == "directory_missing"


def test_nothing_is_provisioned_twice(local: Local) -> None:
    attempt = local.attempt("true")

    async def play() -> None:
        handle = await local.adapter.provision(attempt)
        with pytest.raises(AdapterError) as caught:
            await local.adapter.provision(attempt)
        assert caught.value.code == "already_provisioned"
        await local.adapter.teardown(handle)

    asyncio.run(play())


def test_a_forged_handle_removes_nothing(local: Local, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "exe_1.1.1"
    precious.mkdir(parents=True)
    real = json.loads(local.adapter.handle_for(local.attempt("true").id, Bench(name="b")))

    async def play(place: str) -> None:
        with pytest.raises(InvalidHandle):
            await local.adapter.teardown(Handle(json.dumps({**real, "place": place})))

    for place in (str(precious), str(tmp_path), f"{local.state}/../home/exe_1.1.1", "exe_1.1.1"):
        asyncio.run(play(place))
    assert precious.exists()


def test_a_handle_of_another_machine_is_not_called_torn_down(local: Local) -> None:
    real = json.loads(local.adapter.handle_for(local.attempt("true").id, Bench(name="b")))

    async def play() -> None:
        with pytest.raises(AdapterError) as caught:
            await local.adapter.teardown(Handle(json.dumps({**real, "host": "elsewhere"})))
        assert caught.value.code == "other_machine"

    asyncio.run(play())


def test_a_limit_reached_before_the_guardian_is_up_is_kept(local: Local) -> None:
    for timeout_s in (0.0, 0.001, 0.005, 0.01, 0.02, 0.03):
        began = time.monotonic()
        exit_ = local.play(local.attempt("sleep", "60", timeout_s=timeout_s))
        assert exit_.ended == "timeout"
        assert time.monotonic() - began < DEADLINE_S


def test_a_long_command_and_environment_reach_the_test(local: Local) -> None:
    words = [f"word-{number}-{'x' * 100}" for number in range(3000)]
    env = {f"NAME_{number}": "y" * 1000 for number in range(300)}
    code = "import os, sys; print(len(sys.argv), sum(n.startswith('NAME_') for n in os.environ))"
    assert local.play(local.attempt(sys.executable, "-c", code, *words, env=env)).code == 0
    assert local.text() == ["3001 300"]


def test_no_descriptor_is_lost(local: Local) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def play() -> None:
        await local.run(local.attempt("true"))
        before = descriptors()
        for _ in range(3):
            await local.run(local.attempt("true"))
            await local.run(local.attempt("sleep", "9", timeout_s=0.05))
            with pytest.raises(CannotStart):
                await local.run(local.attempt("no-such-program"))
        assert descriptors() == before

    asyncio.run(play())
