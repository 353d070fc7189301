"""The whole API over a log in memory with the real scheduler: lives of things, real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from api.server import server_of
from tests.unit.api.lab import ANN, Lab, in_lab, running

RESERVATIONS = "/v1/reservations"
EXECUTIONS = "/v1/executions"
AUTH = {"Authorization": "Bearer t-ann"}
LINES_PER_BATCH = 1_000
BATCHES = 200


async def reserve(lab: Lab, *, token: str = ANN, **body: Any) -> dict[str, Any]:
    answer = await lab.call("POST", RESERVATIONS, body, token=token, status=201)
    reservation: dict[str, Any] = answer.json()
    return reservation


def test_the_life_of_a_reservation(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", board="rpi4")
        first = await reserve(lab, selectors=["board=rpi4"], duration_s=60)
        assert first["status"] == "granted"
        assert first["benches"] == [{"bench": "bench-1", "fence": 1}]
        second = await reserve(lab, token="t-bob", selectors=["board"])
        assert (second["status"], second["queue_position"]) == ("queued", 1)

        path = f"{RESERVATIONS}/{first['id']}"
        answer = await lab.call("POST", f"{path}/extend", {"duration_s": 600}, status=200)
        assert answer.json()["lease_until"] > first["lease_until"]
        answer = await lab.call("DELETE", path, token="t-bob", status=403)
        assert answer.json()["code"] == "not_owner"
        answer = await lab.call(
            "POST", f"{path}/extend", {"duration_s": 60}, token="t-bob", status=403
        )

        waited = lab.call("GET", f"{RESERVATIONS}/{second['id']}?wait_s=5", status=200)
        granted, released = await asyncio.gather(waited, lab.call("DELETE", path, status=200))
        assert released.json()["status"] == "released"
        assert (granted.json()["status"], granted.json()["owner"]) == ("granted", "bob")
        again = await lab.call("DELETE", path, status=409)
        assert again.json()["code"] == "reservation_ended"
        assert "released" in again.json()["detail"]

        third = await reserve(lab)
        cancelled = await lab.call("DELETE", f"{RESERVATIONS}/{third['id']}", status=200)
        assert cancelled.json()["status"] == "cancelled"
        # An operator may end what others own.
        path = f"{RESERVATIONS}/{second['id']}"
        await lab.call("DELETE", path, token="t-olga", status=200)
        listed = (await lab.call("GET", f"{RESERVATIONS}?owner=ann&limit=1", status=200)).json()
        assert [each["id"] for each in listed["items"]] == [third["id"]]
        cursor = listed["next_cursor"]
        listed = (await lab.call("GET", f"{RESERVATIONS}?owner=ann&cursor={cursor}")).json()
        assert [each["id"] for each in listed["items"]] == [first["id"]]

    in_lab(scene, tmp_path)


def test_what_can_never_be_served_is_refused_at_once(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        run = {"run": {"command": ["true"]}}
        answer = await lab.call("POST", EXECUTIONS, {**run, "pool": "nowhere"}, status=404)
        assert answer.json()["code"] == "no_such_pool"
        await lab.benches("bench-1", board="rpi4")
        for path, body in (
            (RESERVATIONS, {"selectors": ["board=x"]}),
            (RESERVATIONS, {"selectors": ["", ""]}),
            (EXECUTIONS, {**run, "selector": "!board"}),
        ):
            answer = await lab.call("POST", path, body, status=409)
            assert answer.json()["code"] == "no_matching_bench"
            assert answer.json()["command_id"]
        await lab.benches("bench-1", pool="other")
        answer = await lab.call("POST", EXECUTIONS, run, status=422)
        assert answer.json()["code"] == "pool_missing"
        assert "lab, other" in answer.json()["detail"]
        answer = await lab.call("POST", EXECUTIONS, {**run, "reservation_id": "res-0"}, status=404)
        assert answer.json()["code"] == "no_such_reservation"

    in_lab(scene, tmp_path)


def test_an_execution_inside_a_reservation_takes_its_pool(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", pool="lab")
        await lab.benches("bench-1", pool="other")
        reservation = await reserve(lab, pool="other")
        execution = await lab.submit(reservation_id=reservation["id"])
        assert (execution["pool"], execution["bench"]) == ("other", "bench-1")
        path = f"{EXECUTIONS}/{execution['id']}"
        await lab.started(execution["id"])
        answer = await lab.call("DELETE", f"{path}?reason=lunch", status=200)
        assert answer.json()["status"] != "queued"
        await lab.ended(execution, verdict="cancelled")
        finished = await lab.finished(execution["id"])
        assert finished["verdict"] == "cancelled"
        answer = await lab.call("DELETE", path, status=409)
        assert answer.json()["code"] == "execution_finished"
        listed = (await lab.call("GET", f"{EXECUTIONS}?verdict=cancelled,error")).json()["items"]
        assert [each["id"] for each in listed] == [execution["id"]]

    in_lab(scene, tmp_path)


def test_a_pool_has_the_rule_for_sick_benches_it_was_given_last(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        path = "/v1/pools/lab/benches"
        benches = [{"name": "bench-1", "adapter": "mock"}]

        async def put(status: int, **rule: Any) -> Any:
            body = {"benches": benches, **rule}
            return await lab.call("PUT", path, body, token="t-olga", status=status)

        async def rule() -> Any:
            (pool,) = (await lab.call("GET", "/v1/pools")).json()["items"]
            return pool["health"]

        await put(200)
        assert await rule() is None
        first = {"errors_max": 0, "window_s": 90.5}
        await put(200, health=first)
        assert await rule() == first
        await put(200)
        await put(200, health=None)
        assert await rule() == first
        await put(422, health={"errors_max": -1, "window_s": 90.5})
        await put(422, health={"errors_max": 1, "window_s": 0.0})
        await put(422, health={"errors_max": 1})
        assert await rule() == first

    in_lab(scene, tmp_path)


def test_benches_are_changed_quarantined_and_restored(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", "bench-2")
        path = "/v1/pools/lab/benches/bench-1"
        reason = {"reason": "smoke"}
        answer = await lab.call("POST", f"{path}/quarantine", reason, token="t-olga", status=200)
        bench = answer.json()
        assert (bench["state"], bench["reason"]) == ("quarantined", "smoke")
        assert (bench["quarantined_by"], bench["since"] != "") == ("olga", True)
        page = (await lab.call("GET", "/", status=200)).text
        assert "smoke" in page
        assert "by olga, " in page
        assert bench["config"] == {"a": 1}
        listed = (await lab.call("GET", "/v1/benches?state=idle&pool=lab")).json()["items"]
        assert [each["name"] for each in listed] == ["bench-2"]
        answer = await lab.call("POST", f"{path}/restore", token="t-olga", status=200)
        bench = answer.json()
        assert (bench["state"], bench["quarantined_by"]) == ("idle", None)
        answer = await lab.call("POST", f"{path}/restore", token="t-olga", status=409)
        assert answer.json()["code"] == "not_quarantined"
        (pool,) = (await lab.call("GET", "/v1/pools")).json()["items"]
        assert pool["benches"] == {"total": 2, "by_state": {"idle": 2}}
        (worker,) = (await lab.call("GET", "/v1/workers?pool=lab")).json()["items"]
        assert (worker["worker"], worker["state"], worker["slots"]) == ("worker-lab", "online", 4)

    in_lab(scene, tmp_path)


def test_the_registry_answers_as_kafka_tools_ask(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        subjects = (await lab.call("GET", "/subjects")).json()
        assert "teo.ExecutionSubmitted" in subjects
        path = "/subjects/teo.ExecutionSubmitted/versions"
        versions = (await lab.call("GET", path)).json()
        latest = (await lab.call("GET", f"{path}/latest")).json()
        assert latest["version"] == max(versions)
        assert latest["subject"] == "teo.ExecutionSubmitted"
        by_id = (await lab.call("GET", f"/schemas/ids/{latest['id']}")).json()
        assert by_id["schema"] == latest["schema"]
        assert orjson.loads(by_id["schema"])["name"] == "ExecutionSubmitted"
        for wrong in ("/schemas/ids/9999", "/subjects/x/versions", f"{path}/99"):
            answer = await lab.call("GET", wrong, status=404)
            assert answer.json()["error_code"] in (40401, 40402, 40403)

    in_lab(scene, tmp_path, has_scheduler=False)


@asynccontextmanager
async def served(lab: Lab) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the lab's app on a real socket."""
    server = server_of(lab.app, host="127.0.0.1", port=0)
    server.config.lifespan = "off"
    task = asyncio.ensure_future(server.serve())

    async def is_up() -> bool:
        return server.started

    await lab.until(is_up)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=AUTH, timeout=30
        ) as http:
            yield http
    finally:
        lab.deps.stopping.set()
        server.should_exit = True
        await task


def test_a_body_of_10_mb_is_refused_and_its_sender_can_read_why(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        async with served(lab) as http:
            body = orjson.dumps({"run": {"command": ["x" * 10_000_000]}})
            answer = await http.post(EXECUTIONS, content=body)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

            async def chunks() -> AsyncIterator[bytes]:
                for _ in range(160):
                    yield b"x" * 65_536

            answer = await http.post(EXECUTIONS, content=chunks())
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert (await http.get("/v1/whoami")).json()["actor"] == "ann"

    in_lab(scene, tmp_path, has_scheduler=False)


async def lines_of(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield (name, data) of each event."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, line[6:]


def test_200_000_lines_reach_a_client_that_follows(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = await lab.started((await lab.submit())["id"])
        text = "x" * 100
        batch = (text,) * LINES_PER_BATCH

        async def write() -> None:
            for number in range(BATCHES):
                first = number * LINES_PER_BATCH + 1
                await lab.lines(execution, first, batch, is_last=number == BATCHES - 1)
            await lab.ended(execution)

        async def follow(http: httpx.AsyncClient) -> tuple[int, str]:
            count = 0
            headers = {"Accept": "text/event-stream"}
            path = f"{EXECUTIONS}/{execution['id']}/logs"
            async with http.stream("GET", path, headers=headers) as answer:
                async for name, data in lines_of(answer):
                    if name == "lines":
                        body = orjson.loads(data)
                        assert body["first_line"] == count + 1
                        count += len(body["lines"])
                    elif name == "end":
                        return count, orjson.loads(data)["verdict"]
            raise AssertionError(f"no end after {count} lines")

        async with served(lab) as http:
            (counted, other), _ = await asyncio.gather(
                asyncio.gather(follow(http), follow(http)), write()
            )
            assert counted == other == (LINES_PER_BATCH * BATCHES, "passed")

    in_lab(scene, tmp_path)


def test_a_client_that_leaves_and_a_server_that_stops_end_their_streams(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        streams = lab.app.state.service.streams

        async def is_left() -> bool:
            return streams.open == 0

        async with served(lab) as http:
            async with http.stream("GET", "/v1/events") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert streams.open == 1
            await lab.until(is_left)
            stream = http.stream("GET", "/v1/events")
            answer = await stream.__aenter__()
            assert streams.open == 1
            lab.deps.stopping.set()
            async with asyncio.timeout(5):
                rest = [chunk async for chunk in answer.aiter_bytes()]
            assert b"event: " not in b"".join(rest)
            await stream.__aexit__(None, None, None)
        assert streams.open == 0

    in_lab(scene, tmp_path, has_scheduler=False)


def test_another_process_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = await lab.started((await lab.submit())["id"])
        path = f"{EXECUTIONS}/{execution['id']}/logs"
        key = {"Idempotency-Key": "once"}
        first = await lab.call("POST", RESERVATIONS, {}, headers=key, status=201)
        await lab.lines(execution, 1, ("one", "two"))
        async with lab.stream(path) as stream:
            _, _, last = await stream.event()
        async with running(lab.cluster, tmp_path) as other:
            again = await other.call("POST", RESERVATIONS, {}, headers=key, status=201)
            assert again.json()["id"] == first.json()["id"]
            position = first.headers["teo-position"]
            await other.call("GET", f"/v1/pools?min_position={position}", status=200)
            async with other.stream(path, headers={"Last-Event-ID": last}) as stream:
                await lab.lines(execution, 3, ("three",), is_last=True)
                await lab.ended(execution)
                assert (await stream.event())[1]["lines"] == ["three"]
                assert (await stream.event())[0] == "end"

    in_lab(scene, tmp_path)
