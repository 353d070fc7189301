"""The event stream: live, from the beginning, resumed; each event once, in order."""

from pathlib import Path

import pytest

from tests.unit.api.lab import Lab, in_lab


async def reserve(lab: Lab, pool: str = "lab", count: int = 1) -> None:
    for _ in range(count):
        await lab.call("POST", "/v1/reservations", {"pool": pool}, status=201)


def test_events_come_as_they_happen(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        async with lab.stream("/v1/events") as stream:
            head = await stream.block()
            assert head is not None
            assert head.startswith("id: ")
            await reserve(lab)
            names = [await stream.event() for _ in range(3)]
            assert [name for name, _, _ in names] == [
                "ReservationRequested", "ReservationGranted", "BenchHeld",
            ]  # fmt: skip
            _, data, _ = names[0]
            assert data["type"] == "ReservationRequested"
            assert data["meta"]["actor"] == "ann"
            assert data["meta"]["pool"] == "lab"
            assert data["data"]["owner"] == "ann"
            assert data["meta"]["occurred_at"].endswith("Z")

    in_lab(scene, tmp_path)


def test_pool_and_type_choose(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", pool="lab")
        await lab.benches("bench-1", pool="other")
        wanted = "?pool=other&type=ReservationGranted,BenchHeld&from=beginning"
        async with lab.stream(f"/v1/events{wanted}") as stream:
            await reserve(lab, "lab")
            await reserve(lab, "other")
            for name in ("ReservationGranted", "BenchHeld"):
                event = await stream.event()
                assert (event[0], event[1]["meta"]["pool"]) == (name, "other")

    in_lab(scene, tmp_path, partitions=1)


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_client_resumes_and_misses_nothing(tmp_path: Path, cut: int) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1", pool="lab")
        await lab.benches("bench-1", pool="b")
        await reserve(lab, "lab", 2)
        await reserve(lab, "b", 2)
        seen: list[str] = []
        last = ""
        async with lab.stream("/v1/events?from=beginning") as stream:
            for _ in range(cut):
                _, data, last = await stream.event()
                seen.append(data["meta"]["event_id"])
        await reserve(lab, "lab", 2)
        expected = {r.headers["ce_id"].decode() for r in lab.cluster.all_records("teo.events")}
        async with lab.stream("/v1/events", headers={"Last-Event-ID": last}) as stream:
            while len(seen) < len(expected):
                _, data, last = await stream.event()
                seen.append(data["meta"]["event_id"])
            await reserve(lab, "b")
            assert (await stream.event())[0] == "ReservationRequested"
        assert len(set(seen)) == len(seen)
        assert set(seen) == expected

    in_lab(scene, tmp_path)


def test_a_client_cut_off_before_its_first_event_resumes_from_where_it_began(
    tmp_path: Path,
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        async with lab.stream("/v1/events") as stream:
            head = await stream.block()
            assert head is not None
        await reserve(lab)
        headers = {"Last-Event-ID": head.removeprefix("id: ")}
        async with lab.stream("/v1/events", headers=headers) as stream:
            assert (await stream.event())[0] == "ReservationRequested"

    in_lab(scene, tmp_path)


def test_a_foreign_position_is_refused(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for wrong in ("x", "0:1;1:2", "99:1"):
            answer = await lab.call("GET", "/v1/events", headers={"Last-Event-ID": wrong})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_last_event_id")

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_client_that_is_too_slow_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.hub.SSE_PENDING_MAX", 5)

    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        async with lab.stream("/v1/events") as stream:
            await stream.block()
            await reserve(lab)
            first = await stream.event()
            stream.can_take.clear()
            await reserve(lab, count=30)
            stream.can_take.set()
            names = [event async for event in stream.rest()]
        last = names[-1][2] if names else first[2]
        seen = 1 + len(names)
        async with lab.stream("/v1/events", headers={"Last-Event-ID": last}) as stream:
            wanted = len(lab.cluster.all_records("teo.events")) - 4
            while seen < wanted:
                assert (await stream.event())[0]
                seen += 1

    in_lab(scene, tmp_path)


def test_what_history_and_the_feed_both_tell_is_shown_once(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        hub = lab.app.state.service.hub
        with lab.deps.feed.subscribe() as subscription:
            await reserve(lab)
            told = list(await subscription.next(wait_s=1))
        async with lab.stream("/v1/events?from=beginning&type=ReservationRequested") as stream:
            _, first, _ = await stream.event()
            hub._spread(told)
            await reserve(lab)
            _, second, _ = await stream.event()
        assert first["meta"]["seq"] < second["meta"]["seq"]
        assert told[0].message.meta.event_id == first["meta"]["event_id"]

    in_lab(scene, tmp_path)


def test_of_variables_the_names_are_shown(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        run = {"command": ["true"], "env": {"MODE": "fast", "DB_PASSWORD_FILE": "/run/db"}}
        await lab.submit(run=run)
        async with lab.stream("/v1/events?from=beginning&type=ExecutionSubmitted") as stream:
            _, data, _ = await stream.event()
            assert data["data"]["run"]["env"] == {"MODE": "***", "DB_PASSWORD_FILE": "***"}
            assert data["data"]["run"]["command"] == ["true"]

    in_lab(scene, tmp_path)
