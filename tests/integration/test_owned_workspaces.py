"""Benches with a user of their own: their workspaces lie elsewhere, and are collected like others.

Roles make files for themselves alone (umask 077), so the tests here do too.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.contract import AdapterError, Attempt, Bench, Collected, Lease
from adapters.folders import remove_tree
from adapters.local import owner, removal
from adapters.local.place import Place, place_of
from tests.integration.local_bench import Local
from tests.integration.trees import ON_LINUX

pytestmark = [
    pytest.mark.kill,
    ON_LINUX,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a test as another user"),
]

OWNED: Mapping[str, object] = {"user": "dynamic"}
EVERYTHING = ("**",)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """Runs attempts as a role does, on a machine on which nothing was made before."""
    # Other users cannot come into the folders of pytest.
    machine = Path(tempfile.mkdtemp(prefix="teo-benches-"))
    for module in ("adapter", "owner", "place"):
        monkeypatch.setattr(f"adapters.local.{module}.MACHINE_DIR", machine / "benches")
    machine.chmod(0o711)
    before = os.umask(0o077)
    try:
        yield Local(tmp_path)
    finally:
        os.umask(before)
        remove_tree(tmp_path / "state")
        remove_tree(machine)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder of the lab that holds a secret."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "token").write_text("the admin's")
    return folder


def attempt_of(local: Local, script: str, **config: object) -> Attempt:
    return local.attempt("sh", "-c", script, config={**OWNED, **config}, artifacts=EVERYTHING)


def place_in(local: Local) -> Place:
    """Return where the last attempt was, which is not in the worker's own folder."""
    place = place_of(local.handle)
    assert place.folder.is_relative_to(owner.MACHINE_DIR)
    assert not place.folder.is_relative_to(local.state)
    return place


def play(local: Local, attempt: Attempt, *, code: int = 0, between: str = "") -> dict[str, bytes]:
    """Run an attempt; return what was collected. `between` is done by root before that."""
    read: dict[str, bytes] = {}

    async def run() -> Collected:
        handle = local.handle = await local.adapter.provision(attempt)
        try:
            lease = Lease(until=asyncio.get_running_loop().time() + 60)
            exit_ = await local.adapter.run(attempt, handle, on_lines=local.on_lines, lease=lease)
            assert exit_.code == code, local.text("stderr")
            folder = place_in(local).folder
            process = await asyncio.create_subprocess_exec("sh", "-ec", between, cwd=folder)
            assert await process.wait() == 0
            local.collected = await local.adapter.collect(attempt, handle)
            for found in local.collected.found:
                assert found.open is not None
                with found.open() as file:
                    read[found.path] = file.read()
            return local.collected
        finally:
            await local.adapter.teardown(handle)

    asyncio.run(run())
    assert not os.path.lexists(place_of(local.handle).folder)
    return read


def refused(local: Local) -> dict[str, str]:
    return {each.path: each.code for each in local.collected.refused}


def test_a_workspace_that_its_test_would_remove_is_emptied_and_nothing_else(local: Local) -> None:
    attempt = attempt_of(local, 'echo x > x; rm -rf "$PWD" "$PWD/.."; cd "$PWD" && exit 4')
    assert play(local, attempt, code=4) == {}
    assert refused(local) == {}
    assert play(local, attempt_of(local, "echo next > next")) == {"next": b"next\n"}


def test_a_workspace_cannot_be_replaced_by_its_test(local: Local, lab: Path) -> None:
    script = f"""
        echo mine > mine; here=$PWD; cd ..
        mv "$here" away; ln -sfn {lab} "$here"; ln -sfn {lab} link; ls
        cd "$here"; rmdir "$TEO_ARTIFACTS_DIR"; ln -s {lab} "$TEO_ARTIFACTS_DIR"
    """
    assert play(local, attempt_of(local, script)) == {"mine": b"mine\n"}
    assert local.text() == [], "nor can it see what lies beside it"
    assert refused(local)["artifacts"] == "outside_workspace"
    assert (lab / "token").exists()


@pytest.mark.parametrize(
    ("between", "code", "read"),
    [
        ("rm -r workspace", "workspace_removed", {}),
        ("rm -r workspace; mkdir workspace; echo x > workspace/x", "workspace_removed", {}),
        ("mv workspace away; ln -s {lab} workspace", "workspace_replaced", {"mine": b"mine\n"}),
        ("mv workspace away; mkdir workspace", "workspace_replaced", {"mine": b"mine\n"}),
    ],
)
def test_whoever_removes_or_replaces_it_what_was_given_is_collected_and_all_is_removed(
    local: Local, lab: Path, between: str, code: str, read: dict[str, bytes]
) -> None:
    attempt = attempt_of(local, "echo mine > mine")
    assert play(local, attempt, between=between.replace("{lab}", str(lab))) == read
    assert refused(local) == {".": code}
    assert (lab / "token").exists()
    assert play(local, attempt_of(local, "echo next > next")) == {"next": b"next\n"}


def test_a_tree_of_a_thousand_levels_is_collected_and_removed(local: Local) -> None:
    deepen = "n=0; while [ $n -lt 1000 ]; do mkdir d; cd d; n=$((n + 1)); done"
    script = f'here=$PWD; {deepen}; echo y > x; chmod 0 .; cd "$here"; chmod 0 d .'
    assert play(local, attempt_of(local, script)) == {"d/" * 1000 + "x": b"y\n"}


def test_a_copy_is_its_test_s_own_down_to_the_last_folder(local: Local, tmp_path: Path) -> None:
    source = tmp_path / "suite"
    deep = str(source)
    for _ in range(200):
        os.mkdir(deep)  # noqa: PTH102 - pathlib and makedirs recurse.
        deep += "/d"
    secret = source / "d" / "kept"
    secret.write_text("of the suite")
    secret.chmod(0o400)
    (source / "link").symlink_to("/etc/hostname")
    (source / "changed").write_text("old")
    hostname = Path("/etc/hostname").lstat().st_uid
    script = """
        find . ! -user "$(id -u)"; find . ! -group "$(id -g)"
        cat d/kept; echo; echo new! > changed; echo x > "$(find . -type d -links 2 | tail -1)/x"
    """
    read = play(local, attempt_of(local, script, copy=str(source)))
    assert local.text() == ["of the suite"], "nothing is of anybody else"
    assert sorted(read.values()) == [b"new!\n", b"x\n"], "what was there before is no evidence"
    assert refused(local) == {"link": "outside_workspace"}
    assert Path("/etc/hostname").lstat().st_uid == hostname, "what a link leads to is not given"
    assert secret.lstat().st_uid == 0


@pytest.mark.parametrize("rights", [0o755, 0o777, 0o500])
def test_a_workspace_is_closed_to_other_users_whatever_the_rights_of_what_was_copied(
    local: Local, tmp_path: Path, rights: int
) -> None:
    source = tmp_path / "suite"
    source.mkdir()
    (source / "file").write_text("of the suite")
    source.chmod(rights)
    play(local, attempt_of(local, "stat -c %a .; cat file; touch mine", copy=str(source)))
    assert local.text() == ["700", "of the suite"]


def test_what_an_earlier_life_left_there_is_found_and_removed(local: Local) -> None:
    attempt = attempt_of(local, "true")
    handle = local.handle = asyncio.run(local.adapter.provision(attempt))
    place = place_in(local)
    later = Local(local.state.parent)
    assert asyncio.run(later.adapter.leftovers()) == [handle]
    for mark in place.root.glob(".teo-*"):
        mark.unlink()
    asyncio.run(later.adapter.teardown(handle))
    assert not place.folder.exists()
    assert asyncio.run(later.adapter.leftovers()) == []


def test_more_than_there_is_time_for_goes_later_there_too(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as no_time:
        no_time.setattr(removal, "REMOVE_S_MAX", 0.0)
        play(local, attempt_of(local, "touch x"))
    aside = place_of(local.handle).root / ".removing"
    (left,) = aside.iterdir()
    assert left.stat().st_uid == 0
    assert left.stat().st_mode & 0o777 == 0o700, "no later test of this user can go on in there"
    play(local, attempt_of(local, "true"))
    assert list(aside.iterdir()) == []


def test_a_folder_that_the_user_of_the_bench_cannot_enter_is_refused_before_a_run_meets_it(
    local: Local, lab: Path
) -> None:
    bench = Bench(name="bench-1", config={**OWNED, "directory": str(lab)})
    with pytest.raises(AdapterError, match="cannot enter") as caught:
        asyncio.run(local.adapter.check(bench))
    assert (caught.value.code, caught.value.fault) == ("directory_closed", "bench")
    open_one = Path(tempfile.mkdtemp(prefix="teo-open-"))
    try:
        open_one.chmod(0o755)
        asyncio.run(
            local.adapter.check(replace(bench, config={**OWNED, "directory": str(open_one)}))
        )
    finally:
        open_one.rmdir()
