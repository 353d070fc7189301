"""Whatever a test does to its workspace: its own result stands, and its bench is clean after."""

import asyncio
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from adapters.contract import Attempt, Found, Lease
from adapters.local import removal
from adapters.local.place import place_of
from tests.integration.local_bench import Local
from tests.integration.trees import ON_LINUX

pytestmark = [pytest.mark.kill, ON_LINUX]

EVERYTHING = ("**", "*.xml")


def content_of(found: Found) -> bytes:
    assert found.open is not None
    with found.open() as file:
        return file.read()


def play(local: Local, script: str, *, code: int = 0, **given: object) -> dict[str, bytes]:
    """Run a shell script; return what was collected, read before the teardown."""
    attempt = local.attempt("sh", "-c", script, artifacts=EVERYTHING, **given)  # type: ignore[arg-type]
    read: dict[str, bytes] = {}

    async def run() -> None:
        handle = local.handle = await local.adapter.provision(attempt)
        try:
            lease = Lease(until=asyncio.get_running_loop().time() + 60)
            exit_ = await local.adapter.run(attempt, handle, on_lines=local.on_lines, lease=lease)
            assert exit_.code == code
            local.collected = await local.adapter.collect(attempt, handle)
            read.update({each.path: content_of(each) for each in local.collected.found})
        finally:
            await local.adapter.teardown(handle)

    asyncio.run(run())
    assert not os.path.lexists(place_of(local.handle, own=[local.state]).folder)
    return read


def refused(local: Local) -> dict[str, str]:
    return {each.path: each.code for each in local.collected.refused}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder of the lab that holds a secret."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "token").write_text("the admin's")
    return folder


def test_a_workspace_that_was_removed_leaves_nothing_and_is_no_error(local: Local) -> None:
    assert play(local, 'rm -rf "$PWD"; echo done') == {}
    assert refused(local) == {".": "workspace_removed"}
    assert local.text() == ["done"]
    assert play(local, 'rm -rf "$PWD"; exit 4', code=4) == {}


def test_a_workspace_made_anew_is_not_the_one_that_was_given(local: Local) -> None:
    assert play(local, 'cd ..; rm -r "$OLDPWD"; mkdir "$OLDPWD"; echo x > "$OLDPWD/x"') == {}
    assert refused(local) == {".": "workspace_removed"}


def test_what_a_link_in_its_place_leads_to_is_neither_read_nor_removed(
    local: Local, lab: Path
) -> None:
    script = f'echo mine > mine; cd ..; mv "$OLDPWD" away; ln -s {lab} "$OLDPWD"'
    assert play(local, script) == {"mine": b"mine\n"}
    assert refused(local) == {".": "workspace_replaced"}
    assert (lab / "token").exists()


def test_links_in_the_place_of_its_folders_lead_nowhere(local: Local, lab: Path) -> None:
    script = f'rmdir "$TEO_ARTIFACTS_DIR"; ln -s {lab} "$TEO_ARTIFACTS_DIR"; ln -s {lab} sub'
    assert play(local, script) == {}
    assert refused(local) == {"artifacts": "outside_workspace", "sub": "outside_workspace"}
    local.play(local.attempt("sh", "-c", script))
    assert local.collected.found == ()
    assert refused(local) == {"artifacts": "link_to_folder"}
    assert (lab / "token").exists()


@pytest.mark.parametrize(
    "script",
    [
        'rm -rf "$(dirname "$PWD")"',
        'rm -rf "$(dirname "$(dirname "$PWD")")"',
        "rm -rf ../made ../guardian ../../.teo-local-adapter",
        "rm -f ../guardian; mkfifo ../guardian",
        "rm -f ../guardian; mkdir -p ../guardian/deeper",
        "rm -f ../cgroup; mkfifo ../cgroup",
        'cd ../..; name=$(dirname "$OLDPWD"); mv "$name" away; ln -s {lab} "$name"',
        'cd ../..; name=$(dirname "$OLDPWD"); mv "$name" away; echo x > "$name"',
        "chmod 000 ../.. .. .",
        "touch f; mkdir d; chattr +i f d ../made . .. ../.. || true",
        "touch f; chattr +a f . .. || true",
        "for at in . . .. ..; do mount -t tmpfs none $at || true; done",
        "mkdir -p a/b; chmod 000 a/b a",
        "mkfifo pipe; ln -s pipe link; ln -s link loop; ln -s . here; ln -s /dev/zero zero",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('socket')\"",
        "truncate -s 4G sparse && rm sparse",
        "touch -- -rf ' ' \"$(printf 'a\\nb')\" \"$(printf 'a\\377b')\"",
    ],
)
def test_nothing_a_test_does_to_its_folders_costs_its_bench(
    local: Local, lab: Path, script: str
) -> None:
    play(local, script.replace("{lab}", str(lab)))
    assert (lab / "token").exists()
    assert play(local, "echo next > next") == {"next": b"next\n"}


@pytest.mark.parametrize("place", [".removing", "."], ids=["what is put aside", "all workspaces"])
def test_a_link_in_the_place_of_our_folders_leads_to_nothing_that_is_touched(
    local: Local, lab: Path, place: str
) -> None:
    (lab / "folder").mkdir()
    lab.chmod(0o750)
    before = {path.name for path in lab.rglob("*")}
    replace = f'folder=$(realpath "$PWD/../../{place}"); rm -rf "$folder"; ln -s {lab} "$folder"'
    for script in (replace, "true"):
        play(local, script)
        assert {path.name for path in lab.rglob("*")} == before
    assert stat.S_IMODE(lab.stat().st_mode) == 0o750


def test_a_tree_deeper_than_any_path_is_collected_and_removed(local: Local) -> None:
    deepen = "import os\nfor _ in range(1200): os.mkdir('deep'); os.chdir('deep')"
    code = f"{deepen}\nopen('x','w').write('y')"
    read = play(local, f'{sys.executable} -c "{code}"')
    assert read == {"deep/" * 1200 + "x": b"y"}


def test_names_of_any_bytes_are_collected(local: Local) -> None:
    names = [b"n" * 255, b"a\nb", b"a\xffb", b"-rf", " 電".encode(), b"\\", b"..."]
    code = f"[open(name, 'w').write('x') for name in {names!r}]"
    read = play(local, f'exec {sys.executable} -c "{code}"'.replace("\\", "\\\\"))
    assert sorted(read) == sorted(map(os.fsdecode, names))


def collected(local: Local, attempt: Attempt, between: str) -> list[Found]:
    """Play an attempt and let something happen between the collection and the reading."""

    async def run() -> list[Found]:
        handle = local.handle = await local.adapter.provision(attempt)
        try:
            lease = Lease(until=asyncio.get_running_loop().time() + 60)
            await local.adapter.run(attempt, handle, on_lines=local.on_lines, lease=lease)
            found = list((await local.adapter.collect(attempt, handle)).found)
            workspace = place_of(handle).workspace
            process = await asyncio.create_subprocess_exec("sh", "-ec", between, cwd=workspace)
            assert await process.wait() == 0
            for each in found:
                with pytest.raises(OSError, match=r"another file|regular|link|No such"):
                    content_of(each)
            return found
        finally:
            await local.adapter.teardown(handle)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "swap",
    [
        "rm a/x; ln -s {lab}/token a/x",
        "rm a/x; ln {lab}/token a/x",
        "mv a b; ln -s {lab} a; cp b/x {lab}/x",
        "rm a/x; mkfifo a/x",
        "rm a/x",
        "cp a/x y; mv y a/x",
    ],
)
def test_what_was_checked_is_what_is_read_or_nothing(local: Local, lab: Path, swap: str) -> None:
    attempt = local.attempt("sh", "-c", "mkdir a; echo x > a/x", artifacts=("a/*",))
    assert len(collected(local, attempt, swap.replace("{lab}", str(lab)))) == 1


def test_a_file_found_can_be_read_no_more_once_the_bench_is_torn_down(local: Local) -> None:
    local.play(local.attempt("sh", "-c", "echo x > x", artifacts=("x",)))
    (found,) = local.collected.found
    with pytest.raises(OSError, match="given up"):
        content_of(found)


def test_a_directory_replaced_by_a_link_is_still_the_bench_s_own(
    local: Local, tmp_path: Path, lab: Path
) -> None:
    rig = tmp_path / "rig"
    rig.mkdir()
    script = f"echo x > x; mv {rig} {rig}-away; ln -s {lab} {rig}"
    assert play(local, script, config={"directory": str(rig)}) == {"x": b"x\n"}
    assert (lab / "token").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")
def test_mounts_and_files_of_others_are_left_out_and_cost_nothing(local: Local, lab: Path) -> None:
    (lab / "token").chmod(0o644)
    os.chown(lab / "token", 65_534, 65_534)
    script = f"mkdir m; mount --bind {lab} m || exit 77; ln {lab}/token token; echo x > x"
    attempt = local.attempt("sh", "-c", script, artifacts=EVERYTHING)
    if local.play(attempt).code == 77:
        pytest.skip("nothing can be mounted here")
    assert [each.path for each in local.collected.found] == ["x"]
    assert refused(local) == {"m": "other_file_system", "token": "hard_link"}
    assert (lab / "token").exists()
    assert not place_of(local.handle).folder.exists()


def test_more_files_than_there_is_time_for_cost_no_bench_and_go_later(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os\nfor n in range(2000): os.close(os.open(str(n), os.O_CREAT))"
    monkeypatch.setattr(removal, "REMOVE_S_MAX", 0.0)
    local.play(local.attempt(sys.executable, "-c", code))
    assert not place_of(local.handle).folder.exists()
    aside = local.state / removal.ASIDE
    (left,) = aside.iterdir()
    assert left.is_dir()
    assert asyncio.run(local.adapter.leftovers()) == []
    monkeypatch.undo()
    local.play(local.attempt("true"))
    assert list(aside.iterdir()) == []


def test_a_cancelled_collection_ends_soon(local: Local) -> None:
    files = 10_000
    code = f"import os\nfor n in range({files}): os.close(os.open(str(n), os.O_CREAT))"
    attempt = local.attempt(sys.executable, "-c", code, artifacts=("**/none",) * 40)

    async def run() -> None:
        handle = await local.adapter.provision(attempt)
        lease = Lease(until=asyncio.get_running_loop().time() + 60)
        await local.adapter.run(attempt, handle, on_lines=local.on_lines, lease=lease)
        collecting = asyncio.create_task(local.adapter.collect(attempt, handle))
        await asyncio.sleep(0.01)
        began = time.monotonic()
        collecting.cancel()
        await asyncio.wait({collecting})
        assert collecting.cancelled()
        took_s = time.monotonic() - began
        began = time.monotonic()
        assert (await local.adapter.collect(attempt, handle)).found == ()
        assert took_s < time.monotonic() - began
        await local.adapter.teardown(handle)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "is_whole"),
    [
        ("true", True),
        ("ln -s nowhere b.xml; mkdir c.xml; ln -s . d.xml; mkdir z; ln -s / z/folder", True),
        ("ln -s /etc/passwd b.xml", False),
        ("mkfifo b.xml", False),
    ],
)
def test_a_report_that_is_left_out_is_told_beside_those_that_are_found(
    local: Local, script: str, is_whole: bool
) -> None:
    script = f"echo '<testsuite/>' > a.xml; {script}"
    local.play(local.attempt("sh", "-c", script, junit=("**/*.xml",), artifacts=("**",)))
    assert "a.xml" in [each.path for each in local.collected.found if each.kind == "junit"]
    assert local.collected.has_all_reports is is_whole
