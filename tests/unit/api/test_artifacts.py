"""What was kept of an attempt, and its bytes: ranges, names, no way to anything else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.junit import parse_report
from events.shared import Case
from tests.unit.api.lab import Lab, in_lab

DATA = bytes(range(256)) * 4
HUGE = "9" * 5_000
"""More digits than Python reads as one number."""
CASE = Case(
    suite="s", classname="c", name="n", status="passed", duration_s=0.5, message="", details=""
)


async def kept(lab: Lab, *names: str) -> tuple[dict[str, Any], str]:
    await lab.benches("bench-1")
    execution = await lab.started((await lab.submit())["id"])
    artifacts = [await lab.kept(execution, name, "artifact", DATA) for name in names]
    log = await lab.kept(execution, "log.txt", "log", b"the log\n")
    await lab.ended(execution, artifacts=(*artifacts, log))
    await lab.finished(execution["id"])
    return execution, f"/v1/executions/{execution['id']}/artifacts"


def test_artifacts_are_listed_with_where_their_bytes_are(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await kept(lab, "out/a b.bin", "ünïcode.bin")
        items = (await lab.call("GET", path, status=200)).json()["items"]
        assert {(each["path"], each["kind"], each["size_bytes"]) for each in items} == {
            ("out/a b.bin", "artifact", 1024),
            ("ünïcode.bin", "artifact", 1024),
            ("log.txt", "log", 8),
        }
        for each in items:
            answer = await lab.call("GET", each["href"], status=200)
            assert len(answer.content) == each["size_bytes"]
            assert answer.headers["etag"] == f'"{each["sha256"]}"'
            assert answer.headers["content-disposition"].startswith("attachment; ")
            assert "sandbox" in answer.headers["content-security-policy"]
        by_path = {each["path"]: each for each in items}
        answer = await lab.call("GET", by_path["ünïcode.bin"]["href"])
        assert "filename*=UTF-8''%C3%BCn%C3%AFcode.bin" in answer.headers["content-disposition"]
        assert 'filename="_n_code.bin"' in answer.headers["content-disposition"]
        assert (await lab.call("GET", f"{path}?attempt=1")).json()["items"] == items
        assert (await lab.call("GET", f"{path}?attempt=2")).status_code == 404

    in_lab(scene, tmp_path)


@pytest.mark.parametrize(
    ("wanted", "status", "start", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=1000-", 206, 1000, 1024),
        ("bytes=-24", 206, 1000, 1024),
        ("bytes=-9999", 206, 0, 1024),
        ("bytes=1023-99999", 206, 1023, 1024),
        ("bytes=1024-", 416, 0, 0),
        ("bytes=9-3", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=-", 416, 0, 0),
        (f"bytes={HUGE}-", 416, 0, 0),
        (f"bytes=1000-{HUGE}", 206, 1000, 1024),
        (f"bytes=-{HUGE}", 206, 0, 1024),
        ("bytes=0-1,5-6", 200, 0, 1024),
        ("lines=1-2", 200, 0, 1024),
    ],
)
def test_ranges(tmp_path: Path, wanted: str, status: int, start: int, stop: int) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await kept(lab, "a.bin")
        answer = await lab.call("GET", f"{path}/1/a.bin", headers={"Range": wanted}, status=status)
        if status == 416:
            assert answer.json()["code"] == "range_not_satisfiable"
            assert "bytes=0-1023" in answer.json()["detail"]
            assert answer.headers["content-range"] == "bytes */1024"
            return
        assert answer.content == DATA[start:stop]
        assert answer.headers["content-length"] == str(stop - start)
        if status == 206:
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/1024"

    in_lab(scene, tmp_path)


def test_conditional_and_head_requests(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await kept(lab, "a.bin")
        path = f"{path}/1/a.bin"
        etag = (await lab.call("GET", path)).headers["etag"]
        assert (await lab.call("GET", path, headers={"If-None-Match": etag})).status_code == 304
        assert (await lab.call("GET", path, headers={"If-None-Match": '"x"'})).status_code == 200
        changed = {"Range": "bytes=0-1", "If-Range": '"x"'}
        assert (await lab.call("GET", path, headers=changed)).status_code == 200
        same = {"Range": "bytes=0-1", "If-Range": etag}
        assert (await lab.call("GET", path, headers=same)).status_code == 206
        head = await lab.call("HEAD", path)
        assert (head.status_code, head.content, head.headers["content-length"]) == (
            200,
            b"",
            "1024",
        )

    in_lab(scene, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        "1/b.bin",
        "2/a.bin",
        "x/a.bin",
        "1/%2e%2e/1/a.bin",
        "1/%2e%2e/%2e%2e/etc/passwd",
        "1//etc/passwd",
        "1/a.bin%00",
        "1/",
        "99999999999999999999/a.bin",
        "1/a.bin?kind=log",
    ],
)
def test_a_path_leads_nowhere_else(tmp_path: Path, wrong: str) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await kept(lab, "a.bin")
        answer = await lab.call("GET", f"{path}/{wrong}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"

    in_lab(scene, tmp_path)


ODD = ("new\nline.txt", "end\n", "back\\slash", "...", " ", "a?b#c%2e.txt", "電" * 85, "-rf", "~")


def test_any_name_is_listed_and_fetched(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        names = (*ODD, "deep/" * 800 + "x")
        _, path = await kept(lab, *names)
        items = (await lab.call("GET", path, status=200)).json()["items"]
        assert {each["path"] for each in items} == {*names, "log.txt"}
        for each in items:
            answer = await lab.call("GET", each["href"], status=200)
            assert len(answer.content) == each["size_bytes"]
            assert "\n" not in answer.headers["content-disposition"]

    in_lab(scene, tmp_path)


def test_a_test_s_own_log_txt_hides_no_log(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await kept(lab, "log.txt")
        items = (await lab.call("GET", path, status=200)).json()["items"]
        assert [(each["path"], each["kind"]) for each in items] == [
            ("log.txt", "artifact"),
            ("log.txt", "log"),
        ]
        fetched = [(await lab.call("GET", each["href"], status=200)).content for each in items]
        assert fetched == [DATA, b"the log\n"]
        assert (await lab.call("GET", f"{path}/1/log.txt", status=200)).content == DATA

    in_lab(scene, tmp_path)


def test_bytes_that_are_gone_are_a_problem(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await kept(lab, "a.bin")
        (tmp_path / "artifacts" / execution["id"] / "artifact" / "a.bin").unlink()
        answer = await lab.call("GET", f"{path}/1/a.bin", status=410)
        assert answer.json()["code"] == "artifact_gone"

    in_lab(scene, tmp_path)


def test_cases_as_json_and_as_junit(tmp_path: Path) -> None:
    bad = Case(
        suite="s2",
        classname="c",
        name="<bad> & \x00",
        status="failed",
        duration_s=0.25,
        message='said "no"',
        details="]]> \x1b[31m",
    )

    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = await lab.started((await lab.submit())["id"])
        flaky = replace(CASE, name="f", message="failed before it passed: late", details="at X")
        await lab.ended(execution, verdict="failed", cases=(CASE, bad, flaky))
        await lab.finished(execution["id"])
        path = f"/v1/executions/{execution['id']}"
        first = (await lab.call("GET", f"{path}/cases?limit=1", status=200)).json()
        assert [each["name"] for each in first["items"]] == ["n"]
        assert not first["items"][0]["is_flaky"]
        cursor = first["next_cursor"]
        second = (await lab.call("GET", f"{path}/cases?limit=2&cursor={cursor}", status=200)).json()
        assert (second["items"][0]["message"], second["next_cursor"]) == ('said "no"', None)
        assert second["items"][1]["is_flaky"], "it failed and passed within one attempt"
        answer = await lab.call("GET", f"{path}/junit", status=200)
        assert answer.headers["content-type"].startswith("application/xml")
        from defusedxml.ElementTree import fromstring

        root = fromstring(answer.content)
        assert (root.get("tests"), root.get("failures"), root.get("time")) == ("3", "1", "1.250")
        assert [suite.get("name") for suite in root] == ["s", "s2"]
        assert root[1].get("hostname") == "bench-1"
        case = root[1].find("testcase")
        assert case is not None
        assert case.get("name") == "<bad> & \ufffd"
        failure = case.find("failure")
        assert failure is not None
        assert (failure.get("message"), failure.text) == ('said "no"', "]]> \ufffd[31m")
        read = parse_report(answer.content, name="of ours").cases
        assert [(each.name, each.status, each.is_flaky) for each in read] == [
            ("n", "passed", False),
            ("f", "passed", True),
            ("<bad> & \ufffd", "failed", False),
        ]
        assert read[1].details == "at X", "what we write, we read"

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("wanted", [None, "bytes=0-9"])
def test_bytes_that_were_changed_are_not_given_out(tmp_path: Path, wanted: str | None) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await kept(lab, "a.bin")
        (file,) = (tmp_path / "artifacts").rglob("a.bin")
        file.chmod(0o600)
        file.write_bytes(DATA[:-1] + b"!")
        headers = {} if wanted is None else {"Range": wanted}
        answer = await lab.call("GET", f"{path}/1/a.bin", headers=headers, status=409)
        assert answer.json()["code"] == "artifact_damaged"
        assert "teo fsck --artifacts" in answer.json()["detail"]
        (log,) = (tmp_path / "artifacts").rglob("log.txt")
        log.chmod(0o600)
        log.write_bytes(b"a lie\n")
        answer = await lab.call("GET", f"/v1/executions/{execution['id']}/logs", status=200)
        assert "a lie" not in answer.text

    in_lab(scene, tmp_path)
