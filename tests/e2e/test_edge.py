"""Names, globs and workspaces as labs meet them, at the installed `teo`: one system, no bench lost.

Each test has a pool of its own, so that a bench that is lost shows.
"""

import sys
from pathlib import Path

import pytest

from adapters.folders import remove_tree
from tests.e2e.lab import Lab, until

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(240)]

LEAVE = """
import os
os.chdir(os.environ["TEO_ARTIFACTS_DIR"])
for name in {names!r}:
    open(name, "w").write("kept")
"""
NAMES = (
    "a",
    "neu\nzeile.txt",
    "n" * 250,
    "電源投入後の起動時間測定結果スクリーンショット画像一覧表第一版.png",
    "back\\slash",
    "z",
)


def pool_of(lab: Lab, name: str, **labels: str) -> None:
    given = ", ".join(f"{key}: {value}" for key, value in labels.items())
    benches = "".join(
        f"  - {{name: {each}, adapter: local, labels: {{{given}}}}}\n" for each in ("a", "b")
    )
    lab_is_idle(lab, name, f"pool: {name}\nbenches:\n{benches}")


def lab_is_idle(lab: Lab, name: str, file: str = "") -> None:
    if file:
        assert lab.teo("bench", "apply", "-f", "-", stdin=file).returncode == 0
    until(
        lambda: all(b["state"] == "idle" for b in lab.json("bench", "list", "--pool", name)),
        f"all benches of {name} are idle",
    )


def last(lab: Lab, pool: str) -> str:
    return lab.ok("status", "--pool", pool, "--limit", "1", "-o", "name")


@pytest.mark.parametrize("flag", ["--artifact", "--junit"])
def test_a_glob_that_cannot_be_costs_nothing(lab: Lab, flag: str) -> None:
    pool_of(lab, "edge-globs")
    before = lab.state()
    for glob in ("~/results/*", "reports\\*.xml", ".", "../x", "/abs", ""):
        done = lab.teo("run", "--pool", "edge-globs", flag, glob, "--", "true")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert flag in done.stderr
        assert "next: " in done.stderr
    assert lab.state() == before
    assert {b["state"] for b in lab.json("bench", "list", "--pool", "edge-globs")} == {"idle"}


def test_a_test_that_takes_its_workspace_apart_has_its_own_result(lab: Lab) -> None:
    pool_of(lab, "edge-spaces")
    secret = lab.folder / "data"
    deep = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')"
    for command in (
        ("sh", "-c", 'rm -rf "$PWD"; echo done'),
        ("sh", "-c", f'cd ..; mv "$OLDPWD" away; ln -s {secret} "$OLDPWD"'),
        (sys.executable, "-c", deep),
        (sys.executable, "-c", "import os\nfor n in range(20000): open(str(n), 'w')"),
        ("sh", "-c", "mkfifo pipe; ln -s / root; chmod 000 ."),
    ):
        done = lab.teo("run", "--pool", "edge-spaces", "--artifact", "**/*.json", "--", *command)
        assert done.returncode == 0, done.stderr
        kept = lab.json("artifacts", last(lab, "edge-spaces"))
        assert [each["path"] for each in kept if each["kind"] == "artifact"] == []
    removed = lab.teo("run", "--pool", "edge-spaces", "--", "sh", "-c", 'rm -rf "$PWD"; exit 3')
    assert removed.returncode == 1
    assert "the test removed its workspace" in removed.stderr
    lab_is_idle(lab, "edge-spaces")


def test_any_name_is_kept_listed_and_downloaded(lab: Lab, tmp_path: Path) -> None:
    pool_of(lab, "edge-names")
    script = LEAVE.format(names=NAMES)
    done = lab.teo("run", "--pool", "edge-names", "--", sys.executable, "-c", script)
    assert done.returncode == 0
    assert "not kept" not in done.stderr
    execution_id = last(lab, "edge-names")
    listed = {each["path"] for each in lab.json("artifacts", execution_id)}
    assert listed == {"log.txt", *(f"artifacts/{name}" for name in NAMES)}
    lab.ok("artifacts", execution_id, "--download", str(tmp_path))
    found = {each.name: each.read_text() for each in (tmp_path / "artifacts").iterdir()}
    assert found == dict.fromkeys(NAMES, "kept")


def test_a_test_s_own_log_txt_hides_no_log(lab: Lab, tmp_path: Path) -> None:
    pool_of(lab, "edge-logs")
    deep = "for _ in range(1100): os.mkdir('d'); os.chdir('d')\nopen('x', 'w').write('deep')"
    script = f"import os\nopen('log.txt', 'w').write('mine')\nprint('the-real-output')\n{deep}"
    flags = ("--artifact", "log.txt", "--artifact", "**/x")
    done = lab.teo("run", "--pool", "edge-logs", *flags, "--", sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    execution_id = last(lab, "edge-logs")
    kinds = {(each["path"], each["kind"]) for each in lab.json("artifacts", execution_id)}
    assert kinds == {("log.txt", "artifact"), ("log.txt", "log"), ("d/" * 1100 + "x", "artifact")}
    try:
        lab.ok("artifacts", execution_id, "--download", str(tmp_path / "d"))
        assert (tmp_path / "d" / "log.txt").read_text() == "mine"
        assert (tmp_path / "d" / "log.txt~log").read_text() == "the-real-output\n"
        assert "the-real-output" in lab.ok("logs", execution_id)
    finally:
        remove_tree(tmp_path / "d")


def test_an_ask_that_nothing_can_serve_any_more_says_so(lab: Lab) -> None:
    file = "pool: edge-labels\nbenches:\n  - {{name: a, adapter: local, labels: {{k: {}}}}}\n"
    lab_is_idle(lab, "edge-labels", file.format("v"))
    ask = ("run", "--detach", "--pool", "edge-labels", "-l", "k=v", "--")
    holder = lab.ok(*ask, "sleep", "60")
    waiting = lab.ok(*ask, "true")
    assert lab.teo("bench", "apply", "-f", "-", stdin=file.format("other")).returncode == 0
    said = "no bench matches k=v any more in pool edge-labels"
    until(lambda: said in lab.ok("queue", "--pool", "edge-labels"), "the queue says why")
    assert said in lab.ok("status", waiting)
    follower = lab.start("run", "--pool", "edge-labels", "-l", "k=other", "--", "true")
    lab.ok("cancel", waiting)
    lab.ok("cancel", holder)
    assert follower.wait(60) == 0
    follower.communicate()


def test_output_that_is_too_fast_is_counted_and_kept(lab: Lab) -> None:
    """How much is too fast depends on the machine; what is not shown is counted on any."""
    pool_of(lab, "edge-fast")
    done = lab.teo("run", "--pool", "edge-fast", "--", "seq", "1", "900000")
    assert done.returncode == 0
    shown = done.stdout.count("\n") - done.stdout.count("[teo: ")
    said = f"{900_000 - shown} lines of attempt 1 came too fast to be shown"
    assert (said in done.stderr) == (shown < 900_000), done.stderr
    execution_id = last(lab, "edge-fast")
    assert lab.ok("logs", execution_id).split("\n") == [str(n) for n in range(1, 900_001)]
