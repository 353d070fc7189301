"""The pages: signing in, what they show, and that nothing of a test's words becomes markup."""

import shlex
from dataclasses import replace
from pathlib import Path

from markupsafe import escape

from events.reports import WorkerFaulty, WorkerStarted
from events.shared import Case
from tests.unit.api.lab import Lab, in_lab

CASE = Case(
    suite="s", classname="c", name="n", status="passed", duration_s=0.1, message="", details=""
)


def test_signing_in_leaves_no_token_in_the_address(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        page = await lab.call("GET", "/", token=None, status=200)
        assert 'action="/signin"' in page.text
        answer = await lab.call("GET", "/?token=t-ann", token=None, status=303)
        assert answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "bench apply" in (await lab.http.get("/")).text
        answer = await lab.http.post("/signout")
        assert answer.headers["location"] == "/"
        assert 'action="/signin"' in (await lab.http.get("/")).text

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_wrong_token_is_told(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        answer = await lab.http.post("/signin", data={"token": "nope"})
        assert answer.status_code == 401
        assert "not known here" in answer.text
        assert "set-cookie" not in answer.headers
        assert (await lab.http.get("/?token=nope")).status_code == 401
        cross = {"Sec-Fetch-Site": "cross-site"}
        answer = await lab.http.post("/signin", data={"token": "t-ann"}, headers=cross)
        assert answer.status_code == 403
        answer = await lab.http.post("/signin", data={"token": " t-ann "})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")

    in_lab(scene, tmp_path, has_scheduler=False)


def test_pages_need_a_token_and_parts_say_so_shortly(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for path in ("/executions/exe-1", "/ui/overview", "/ui/executions/exe-1"):
            assert (await lab.call("GET", path, token=None)).status_code == 401
            assert (await lab.call("GET", path, token="t-nobody")).status_code == 401
        assert (await lab.call("GET", "/executions/exe-1")).status_code == 404
        for name in ("teo.css", "overview.js", "execution.js", "docs.js"):
            assert (await lab.call("GET", f"/assets/{name}", token=None)).status_code == 200
        assert (await lab.call("GET", "/assets/../app.py", token=None)).status_code == 404

    in_lab(scene, tmp_path, has_scheduler=False)


def test_the_overview_shows_benches_runs_queue_and_results(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", "bench-2", board="rpi4")
        done = await lab.started((await lab.submit(run={"command": ["echo", "<b>hi</b>"]}))["id"])
        await lab.ended(done, verdict="failed")
        await lab.finished(done["id"])
        running = await lab.started((await lab.submit())["id"])
        await lab.call("POST", "/v1/reservations", {}, status=201)
        waiting = await lab.submit()
        page = await lab.call("GET", "/", status=200)
        part = await lab.call("GET", "/ui/overview", status=200)
        for text in (page.text, part.text):
            for execution in (done, running, waiting):
                assert f"/executions/{execution['id']}" in text
            assert "board=rpi4" in text
            assert 'class="badge failed"' in text
            assert "&lt;b&gt;hi" in text
            assert "<b>hi" not in text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in page.text
        assert "style=" not in page.text
        assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in page.text

    in_lab(scene, tmp_path)


def test_the_overview_names_a_process_that_was_refused(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        asked = WorkerStarted(
            adapters=("mock",), benches=(), slots=1, version="1", host="rack-2 <b>"
        )
        await lab.report(asked, life="another")

        async def is_shown() -> bool:
            text = (await lab.call("GET", "/ui/overview", status=200)).text
            return "another process on rack-2 &lt;b&gt; asked for this id" in text

        await lab.until(is_shown)
        found = (await lab.call("GET", "/v1/workers", status=200)).json()["items"][0]
        assert found["refused"]["host"] == "rack-2 <b>"
        assert found["life"] == ""

    in_lab(scene, tmp_path)


def test_the_page_of_an_execution_names_what_is_known(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = await lab.started((await lab.submit())["id"])
        path = f"/executions/{execution['id']}"
        page = (await lab.call("GET", path, status=200)).text
        assert 'data-done="no"' in page
        kept = await lab.kept(execution, "out/x.bin", "artifact", b"x" * 2000)
        await lab.ended(execution, artifacts=(kept,))
        await lab.finished(execution["id"])
        page = (await lab.call("GET", path, status=200)).text
        assert 'data-done="yes"' in page
        assert 'class="badge passed"' in page
        assert "out/x.bin" in page
        assert "2.0 kB" in page
        part = (await lab.call("GET", f"/ui{path}", status=200)).text
        assert "out/x.bin" in part
        assert "<html" not in part

    in_lab(scene, tmp_path)


def test_what_passed_after_a_failure_is_called_flaky(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        command = ["sh", "-c", "a 'b'"]
        asked = await lab.submit(retries_on_failure=1, run={"command": command})
        path = f"/v1/executions/{asked['id']}"

        async def has_a_second_attempt() -> bool:
            return len((await lab.call("GET", path, status=200)).json()["attempts"]) == 2

        for verdict in ("failed", "passed"):
            execution = await lab.started(asked["id"])
            await lab.ended(execution, verdict=verdict, cases=(replace(CASE, status=verdict),))
            await lab.until(has_a_second_attempt)
        await lab.finished(asked["id"])
        page = (await lab.call("GET", f"/executions/{asked['id']}", status=200)).text
        assert page.count('class="badge flaky"') == 2, "of the execution and of its case"
        assert escape(shlex.join(command)) in page
        overview = (await lab.call("GET", "/ui/overview", status=200)).text
        assert overview.count('class="badge flaky"') == 1

    in_lab(scene, tmp_path)


def test_it_is_shown_whose_fault_it_was_and_why_a_worker_is_out(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = await lab.started((await lab.submit(retries=0))["id"])
        await lab.ended(execution, verdict="error", fault="bench")
        await lab.finished(execution["id"])
        words = str(escape("the lab's: bench bench-1"))
        assert words in (await lab.call("GET", f"/executions/{execution['id']}", status=200)).text
        assert words in (await lab.call("GET", "/ui/overview", status=200)).text

        await lab.report(WorkerFaulty(code="state_unusable", reason="the disk is full"))

        async def is_suspended() -> bool:
            row = await lab.deps.reads.worker("lab", "worker-lab")
            return row is not None and row.state == "suspended"

        await lab.until(is_suspended)
        waiting = await lab.submit()
        overview = (await lab.call("GET", "/ui/overview", status=200)).text
        assert "the disk is full" in overview
        assert "1 bench matches, it is offline" in overview
        found = (await lab.call("GET", f"/v1/executions/{waiting['id']}", status=200)).json()
        assert "worker worker-lab is suspended: the disk is full" in found["stuck"]
        path = "/v1/pools/lab/workers/worker-lab/resume"
        await lab.call("POST", path, status=403)
        await lab.call("POST", "/v1/pools/lab/workers/w9/resume", token="t-olga", status=404)
        answer = await lab.call("POST", path, token="t-olga", status=200)
        assert answer.json()["state"] == "online"
        await lab.call("POST", path, token="t-olga", status=409)

    in_lab(scene, tmp_path)
