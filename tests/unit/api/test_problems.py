"""Whatever is wrong with a request, the answer names it and the next step."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.unit.api.lab import Lab, in_lab

RUN = {"command": ["true"]}
EXECUTIONS = "/v1/executions"
RESERVATIONS = "/v1/reservations"


def check(answer: Any, status: int, code: str, *names: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:teo:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    for name in names:
        assert name in body["detail"], body["detail"]
    return body


@pytest.mark.parametrize(
    ("path", "body", "code", "names"),
    [
        (EXECUTIONS, {}, "invalid_request", ["run", "Field required"]),
        (EXECUTIONS, {"run": {"command": []}}, "invalid_command", ["run.command"]),
        (EXECUTIONS, {"run": {**RUN, "tmeout_s": 3}}, "invalid_request", ["tmeout_s", "timeout_s"]),
        (EXECUTIONS, {"run": RUN, "pol": "x"}, "invalid_request", ["pol", "allowed", "pool"]),
        (EXECUTIONS, {"run": RUN, "selector": "a=b=("}, "invalid_selector", ["a=b=("]),
        (EXECUTIONS, {"run": RUN, "retries": 99}, "invalid_request", ["retries", "10"]),
        (EXECUTIONS, {"run": RUN, "retries": "2"}, "invalid_request", ["retries"]),
        (EXECUTIONS, {"run": {**RUN, "timeout_s": -1}}, "invalid_duration", ["timeout_s"]),
        (EXECUTIONS, {"run": {**RUN, "timeout_s": "10m"}}, "invalid_request", ["timeout_s"]),
        (EXECUTIONS, {"run": {**RUN, "junit": ["../x"]}}, "invalid_glob", ["../x", "workspace"]),
        (EXECUTIONS, {"run": {**RUN, "verdict_by": "x"}}, "invalid_request", ["report", "both"]),
        (EXECUTIONS, {"run": {**RUN, "artifacts": ["/etc/*"]}}, "invalid_glob", ["/etc/*"]),
        (EXECUTIONS, {"run": {**RUN, "env": {"A B": "x"}}}, "invalid_variable", ["env", "'A B'"]),
        (EXECUTIONS, {"run": {**RUN, "env": {"TEO_FENCE": "1"}}}, "invalid_variable", ["FENCE"]),
        (EXECUTIONS, {"run": {**RUN, "env": {"api_token": "x"}}}, "invalid_secret", ["allow-env"]),
        (EXECUTIONS, {"run": {**RUN, "memory_max_bytes": 1}}, "invalid_request", ["memory_max"]),
        (EXECUTIONS, {"run": {**RUN, "processes_max": 0}}, "invalid_request", ["processes_max"]),
        (EXECUTIONS, {"run": RUN, "pool": "no/pool"}, "invalid_name", ["'no/pool' is no name"]),
        (EXECUTIONS, {"run": {"command": ["a\0b"]}}, "invalid_command", ["NUL"]),
        (EXECUTIONS, ["run"], "invalid_request", ["object"]),
        (RESERVATIONS, {"selectors": []}, "invalid_request", ["selectors"]),
        (RESERVATIONS, {"selectors": ["k in (a"]}, "invalid_selector", ["k in (a"]),
        (RESERVATIONS, {"duration_s": 0}, "invalid_duration", ["duration_s", "more than 0"]),
        (RESERVATIONS, {"priority": 10_000}, "invalid_request", ["priority"]),
        (RESERVATIONS, {}, "pool_missing", ["teo bench apply"]),
    ],
)
def test_a_malformed_body_is_named(
    tmp_path: Path, path: str, body: Any, code: str, names: list[str]
) -> None:
    async def scene(lab: Lab) -> None:
        check(await lab.call("POST", path, body), 422, code, *names)
        assert lab.cluster.all_records("teo.commands") == []

    in_lab(scene, tmp_path, has_scheduler=False)


def test_unknown_fields_list_the_allowed_ones_of_their_place(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        body = {"run": {**RUN, "wrong": 1}, "also": 2}
        problem = check(await lab.call("POST", EXECUTIONS, body), 422, "invalid_request")
        said = {error["loc"]: error["msg"] for error in problem["errors"]}
        assert "command, disk_max_bytes, env, idle_timeout_s" in said["run.wrong"]
        assert "selector" in said["also"]
        assert "selector" not in said["run.wrong"]
        bench = {"name": "b", "adapter": "mock", "lables": {}}
        answer = await lab.call(
            "PUT", "/v1/pools/lab/benches", {"benches": [bench]}, token="t-olga"
        )
        check(answer, 422, "invalid_request", "benches.0.lables", "labels")

    in_lab(scene, tmp_path, has_scheduler=False)


def test_paths_and_methods_and_queries(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        check(await lab.call("GET", "/v1/nothing"), 404, "no_such_path", "/v1/nothing", "/docs")
        answer = await lab.call("PATCH", EXECUTIONS)
        check(answer, 405, "method_not_allowed", "PATCH", "GET, HEAD, POST")
        assert answer.headers["allow"] == "GET, HEAD, POST"
        check(await lab.call("POST", "/"), 405, "method_not_allowed")
        check(await lab.call("GET", f"{EXECUTIONS}?limit=0"), 422, "invalid_query", "limit")
        check(await lab.call("GET", f"{EXECUTIONS}?limit=501"), 422, "invalid_query", "limit")
        check(await lab.call("GET", f"{EXECUTIONS}?limt=5"), 422, "invalid_query", "limit, min_po")
        check(await lab.call("GET", f"{EXECUTIONS}?limit=5&limit=6"), 422, "invalid_query", "twice")
        check(await lab.call("GET", f"{EXECUTIONS}?status=bogus"), 422, "invalid_query", "finished")
        check(await lab.call("GET", f"{EXECUTIONS}?verdict=ok"), 422, "invalid_query", "passed")
        check(await lab.call("GET", f"{RESERVATIONS}?status=held"), 422, "invalid_query", "granted")
        check(await lab.call("GET", "/v1/benches?state=idle,up"), 422, "invalid_query", "'up'")
        check(await lab.call("GET", "/v1/benches?state=retired"), 422, "invalid_query", "'retired'")
        assert (await lab.call("GET", "/v1/benches?state=idle,held")).status_code == 200
        check(await lab.call("GET", f"{EXECUTIONS}?cursor=zzz"), 422, "invalid_cursor", "zzz")
        check(await lab.call("GET", "/v1/benches?selector=("), 422, "invalid_selector")
        check(await lab.call("GET", "/v1/events?type=Nope"), 422, "invalid_type", "BenchHeld")
        check(await lab.call("GET", f"{EXECUTIONS}?min_position=x"), 422, "invalid_query")
        for kind in ("executions", "reservations"):
            check(await lab.call("GET", f"/v1/{kind}/x-1"), 404, f"no_such_{kind[:-1]}", "x-1")
            check(await lab.call("DELETE", f"/v1/{kind}/x-1"), 404, f"no_such_{kind[:-1]}")
        check(await lab.call("GET", "/v1/commands/c-1"), 404, "no_such_command", "c-1")
        check(await lab.call("GET", "/v1/pools/lab/benches/b"), 404, "no_such_bench", "b in pool")
        assert (await lab.call("HEAD", EXECUTIONS)).status_code == 200

    in_lab(scene, tmp_path, has_scheduler=False)


def test_bodies_that_are_no_json_or_too_large(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        async def send(content: bytes, kind: str = "application/json") -> Any:
            headers = {"Authorization": "Bearer t-ann", "Content-Type": kind}
            return await lab.http.post(EXECUTIONS, content=content, headers=headers)

        check(await send(b'{"run": '), 400, "invalid_json", "/docs")
        check(await send(b'{"run": "\xff"}'), 400, "invalid_json")
        check(await send(b"run: x", "application/yaml"), 415, "unsupported_media_type", "yaml")
        check(await send(b""), 422, "invalid_request")
        large = orjson.dumps({"run": {"command": ["x" * 10_000_000]}})
        answer = await send(large)
        check(answer, 413, "body_too_large", f"{len(large)} bytes", "1000000")
        assert answer.headers["connection"] == "close"

    in_lab(scene, tmp_path, has_scheduler=False)


def test_limits_of_headers_and_depth(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        answer = await lab.call("GET", "/v1/pools", headers={"X-Long": "x" * 40_000})
        check(answer, 431, "headers_too_large", "32000")
        deep: Any = 1
        for _ in range(200):
            deep = {"a": deep}
        bench = {"name": "b", "adapter": "mock", "config": deep}
        answer = await lab.call(
            "PUT", "/v1/pools/lab/benches", {"benches": [bench]}, token="t-olga"
        )
        check(answer, 422, "invalid_request", "100 levels")

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_log_that_is_away_is_a_503_and_not_ready(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.cluster.away_until_s = 1e12
        answer = await lab.call("GET", "/readyz", status=503)
        assert answer.json()["status"] == "not_ready"
        assert not answer.json()["checks"]["projection"]["is_ok"]
        check(await lab.call("GET", "/v1/events"), 503, "log_unavailable", "try again")
        # What is projected is read all the same.
        assert (await lab.call("GET", "/v1/pools")).status_code == 200
        assert (await lab.call("GET", "/healthz")).status_code == 200

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_head_of_a_stream_ends_at_once(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        answer = await lab.call("HEAD", "/v1/events", status=200)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert lab.app.state.service.streams.open == 0

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_token_is_needed_and_its_role(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for token in (None, "wrong"):
            answer = await lab.call("GET", "/v1/pools", token=token)
            check(answer, 401, "not_authenticated", "Bearer TOKEN")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        basic = {"Authorization": "Basic dDphbm4="}
        assert (await lab.http.get("/v1/pools", headers=basic)).status_code == 401
        check(await lab.call("GET", "/v1/pools", token="t-nobody"), 403, "role_missing", "viewer")
        body = {"run": RUN}
        answer = await lab.call("POST", EXECUTIONS, body, token="t-eve")
        check(answer, 403, "role_missing", "eve", "viewer", "user")
        benches = {"benches": [{"name": "b", "adapter": "mock"}]}
        answer = await lab.call("PUT", "/v1/pools/lab/benches", benches)
        check(answer, 403, "role_missing", "operator")
        # A cookie reads, and never changes anything.
        cookie = {"Cookie": "teo_token=t-ann"}
        answer = await lab.http.get("/v1/whoami", headers=cookie)
        assert answer.json() == {"actor": "ann", "roles": ["user"]}
        answer = await lab.http.post(EXECUTIONS, json=body, headers=cookie)
        check(answer, 401, "not_authenticated")
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/", "/metrics"):
            assert (await lab.call("GET", path, token=None)).status_code == 200

    in_lab(scene, tmp_path, has_scheduler=False)


def test_an_error_of_ours_is_a_problem_that_names_its_trace(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        lab.deps.reads._store.db.execute("DROP TABLE benches")
        answer = await lab.call("GET", "/v1/pools")
        check(answer, 500, "internal", "OperationalError", "TEO-Trace-Id")
        assert "no such table" not in answer.text
        assert len(answer.headers["teo-trace-id"]) == 32

    in_lab(scene, tmp_path, has_scheduler=False)
