"""The output of executions: followed, resumed, fetched; stale lines never, missing ones told."""

from pathlib import Path
from typing import Any

import pytest

from api.deps import Settings
from events.logs import TOO_FAST
from tests.unit.api.lab import Lab, Stream, in_lab

LINES = tuple(f"line {number}" for number in range(1, 11))


async def begun(lab: Lab, **more: Any) -> tuple[dict[str, Any], str]:
    """Return an execution that runs, and where its output is."""
    await lab.benches("bench-1", "bench-2")
    execution = await lab.started((await lab.submit(**more))["id"])
    return execution, f"/v1/executions/{execution['id']}/logs"


async def texts(stream: Stream) -> tuple[list[str], list[str]]:
    """Return all lines up to the end, and the names of the other events."""
    lines: list[str] = []
    others: list[str] = []
    async for name, data, _ in stream.rest():
        if name == "lines":
            lines += data["lines"]
        else:
            others.append(name)
    return lines, others


def test_lines_come_as_they_are_written_and_the_end_last(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        await lab.lines(execution, 1, LINES[:3], stderr=(1,))
        async with lab.stream(path) as stream:
            name, data, event_id = await stream.event()
            assert (name, event_id) == ("lines", "1.3")
            assert data == {
                "attempt": 1, "first_line": 1, "lines": list(LINES[:3]), "stderr": [1],
            }  # fmt: skip
            await lab.lines(execution, 4, LINES[3:5])
            assert (await stream.event())[2] == "1.5"
            await lab.lines(execution, 6, LINES[5:], is_last=True)
            await lab.ended(execution, verdict="failed")
            assert (await stream.event())[1]["lines"] == list(LINES[5:])
            name, data, _ = await stream.event()
            assert (name, data["status"], data["verdict"]) == ("end", "finished", "failed")
            assert (await stream.event())[0] == ""

    in_lab(scene, tmp_path)


def test_a_follower_that_comes_before_the_first_attempt_waits(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        first = await lab.started((await lab.submit())["id"])
        second = await lab.submit()
        assert second["queue_position"] == 1
        async with lab.stream(f"/v1/executions/{second['id']}/logs") as stream:
            await lab.ended(first)
            execution = await lab.started(second["id"])
            await lab.lines(execution, 1, LINES, is_last=True)
            await lab.ended(execution)
            assert await texts(stream) == (list(LINES), ["end"])

    in_lab(scene, tmp_path)


def test_stale_fences_and_repeats_are_never_shown(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        fence = execution["attempts"][0]["fence"]
        async with lab.stream(path) as stream:
            await lab.lines(execution, 1, ("stale",), fence=fence - 1)
            await lab.lines(execution, 1, LINES[:4])
            await lab.lines(execution, 3, LINES[2:6])
            await lab.lines(execution, 1, LINES[:4])
            await lab.lines(execution, 7, ("stale too",), fence=fence + 1)
            await lab.lines(execution, 7, LINES[6:], is_last=True)
            await lab.ended(execution)
            assert await texts(stream) == (list(LINES), ["end"])
        answer = await lab.call("GET", path, headers={"Accept": "text/plain"}, status=200)
        assert answer.text.splitlines() == list(LINES)

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("last", ["1.4", "1.10"])
def test_a_client_resumes_after_the_last_line_it_had(tmp_path: Path, last: str) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        await lab.lines(execution, 1, LINES[:6])
        await lab.lines(execution, 7, LINES[6:], is_last=True)
        await lab.ended(execution)
        await lab.finished(execution["id"])
        async with lab.stream(path, headers={"Last-Event-ID": last}) as stream:
            rest = list(LINES[int(last[2:]) :])
            assert await texts(stream) == (rest, ["end"])
        for wrong in ("x", "1", "1.2.3"):
            answer = await lab.call(
                "GET", path, headers={"Last-Event-ID": wrong, "Accept": "text/event-stream"}
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_last_event_id")

    in_lab(scene, tmp_path)


def test_a_retry_is_told_and_each_attempt_can_be_read(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        async with lab.stream(path) as stream:
            await lab.lines(execution, 1, ("first try",))
            await lab.ended(execution, verdict="error", is_retriable=True)

            async def is_retried() -> bool:
                row = await lab.deps.reads.execution(execution["id"])
                return row is not None and len(row.attempts) == 2

            await lab.until(is_retried)
            second = await lab.started(execution["id"])
            await lab.lines(second, 1, ("second try",), is_last=True)
            await lab.lines(second, 2, ("late words of the first",), attempt=1)
            await lab.ended(second)
            seen = [(name, data) async for name, data, _ in stream.rest()]
        assert [name for name, _ in seen] == ["lines", "requeued", "attempt", "lines", "end"]
        assert (seen[1][1]["attempt"], seen[1][1]["code"]) == (1, "exit_code")
        assert seen[2][1]["attempt"] == 2
        async with lab.stream(f"{path}?attempt=1") as stream:
            assert (await texts(stream))[0] == ["first try", "late words of the first"]
        async with lab.stream(path, headers={"Last-Event-ID": "2.0"}) as stream:
            assert await texts(stream) == (["second try"], ["end"])
        for attempt, text in (("", "second try"), ("?attempt=1", "first try")):
            part = (await lab.call("GET", f"{path}{attempt}", status=200)).json()
            assert part["lines"][0]["text"] == text
            assert part["is_complete"]
        assert (await lab.call("GET", f"{path}?attempt=3")).json()["code"] == "no_such_attempt"

    in_lab(scene, tmp_path)


def test_lines_are_fetched_in_parts(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        await lab.lines(execution, 1, LINES[:6], stderr=(1,))
        part = (await lab.call("GET", f"{path}?limit=4", status=200)).json()
        assert [line["n"] for line in part["lines"]] == [1, 2, 3, 4]
        assert [line["stream"] for line in part["lines"][:2]] == ["stdout", "stderr"]
        assert (part["next_line"], part["is_complete"]) == (5, False)
        part = (await lab.call("GET", f"{path}?since_line=5", status=200)).json()
        assert ([line["n"] for line in part["lines"]], part["is_complete"]) == ([5, 6], False)
        await lab.lines(execution, 7, LINES[6:], is_last=True)
        await lab.ended(execution)
        await lab.finished(execution["id"])
        part = (await lab.call("GET", f"{path}?since_line=5", status=200)).json()
        assert (part["next_line"], part["is_complete"]) == (11, True)
        part = (await lab.call("GET", f"{path}?since_line=99", status=200)).json()
        assert (part["lines"], part["next_line"], part["is_complete"]) == ([], 99, True)
        text = await lab.call(
            "GET", f"{path}?since_line=9&limit=1", headers={"Accept": "text/plain"}
        )
        assert text.text == "line 9\n"

    in_lab(scene, tmp_path)


def test_what_the_topic_misses_comes_from_the_archive(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        await lab.lines(execution, 3, LINES[2:4])
        await lab.lines(execution, 7, (LINES[6], TOO_FAST))
        whole = "".join(f"{line}\n" for line in LINES).encode()
        kept = await lab.kept(execution, "log.txt", "log", whole)
        await lab.ended(execution, artifacts=(kept,))
        await lab.finished(execution["id"])
        async with lab.stream(path) as stream:
            assert await texts(stream) == (list(LINES), ["gap", "gap", "gap", "end"])
        part = (await lab.call("GET", path, status=200)).json()
        assert [line["text"] for line in part["lines"]] == list(LINES)
        assert part["is_complete"]
        part = (await lab.call("GET", f"{path}?since_line=5&limit=3", status=200)).json()
        assert [line["n"] for line in part["lines"]] == [5, 6, 7]

    in_lab(scene, tmp_path)


def test_a_gap_without_an_archive_is_told_and_passed(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        async with lab.stream(path) as stream:
            await lab.lines(execution, 1, LINES[:2])
            await lab.lines(execution, 6, LINES[5:], is_last=True)
            await lab.ended(execution)
            seen = [(name, data) async for name, data, _ in stream.rest()]
        assert [name for name, _ in seen] == ["lines", "gap", "lines", "end"]
        assert seen[1][1] == {"attempt": 1, "first_line": 3, "next_line": 6}

    in_lab(scene, tmp_path)


def test_a_slow_follower_reads_by_itself_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.tails.FOLLOW_PENDING_BYTES_MAX", 2_000)

    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        async with lab.stream(path) as stream:
            await lab.lines(execution, 1, ("first",))
            assert (await stream.event())[1]["lines"] == ["first"]
            stream.can_take.clear()
            for number in range(2, 202):
                await lab.lines(execution, number, (f"{number}",), is_last=number == 201)
            await lab.ended(execution)
            await lab.finished(execution["id"])
            stream.can_take.set()
            lines, others = await texts(stream)
        assert lines == [str(number) for number in range(2, 202)]
        assert others == ["end"]

    in_lab(scene, tmp_path)


def test_lines_of_another_execution_in_the_same_partition_are_not_shown(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        other = await lab.started((await lab.submit())["id"])
        await lab.lines(other, 1, ("other",))
        await lab.lines(execution, 1, ("mine",), is_last=True)
        await lab.lines(other, 2, ("other too",), is_last=True)
        await lab.ended(execution)
        async with lab.stream(path) as stream:
            assert (await texts(stream))[0] == ["mine"]
        part = (await lab.call("GET", path, status=200)).json()
        assert [line["text"] for line in part["lines"]] == ["mine"]

    in_lab(scene, tmp_path, partitions=1)


def test_an_execution_that_never_ran_ends_at_once(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab)
        await lab.started((await lab.submit())["id"])
        waiting = await lab.submit()
        await lab.call("DELETE", f"/v1/executions/{waiting['id']}?reason=enough", status=200)
        path = f"/v1/executions/{waiting['id']}/logs"
        async with lab.stream(path) as stream:
            name, data, _ = await stream.event()
            assert (name, data["verdict"], data["reason"]) == ("end", "cancelled", "enough")
        part = (await lab.call("GET", path, status=200)).json()
        assert part == {"attempt": 0, "lines": [], "next_line": 1, "is_complete": True}

    in_lab(scene, tmp_path)


def test_silence_is_kept_alive_and_too_many_streams_are_refused(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        _, path = await begun(lab)
        async with lab.stream(path) as stream:
            assert await stream.block() == ": keep-alive"
            answer = await lab.call("GET", path, headers={"Accept": "text/event-stream"})
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
        assert lab.app.state.service.streams.open == 0
        lab.deps.stopping.set()
        async with lab.stream(path) as stream:
            assert await stream.block() is None

    settings = Settings(sse_keep_alive_s=0.05, sse_clients_max=1)
    in_lab(scene, tmp_path, settings=settings)


def test_after_a_restart_the_lines_are_found_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.log_search.LOG_SEARCH_RECORDS_MAX", 4)

    async def scene(lab: Lab) -> None:
        execution, path = await begun(lab)
        for number, line in enumerate(LINES, 1):
            await lab.lines(execution, number, (line,), is_last=number == len(LINES))
        await lab.ended(execution)
        await lab.finished(execution["id"])
        tail = lab.app.state.service.tail
        tail._starts.clear()
        part = (await lab.call("GET", path, status=200)).json()
        assert [line["text"] for line in part["lines"]] == list(LINES)
        assert tail._starts[execution["id"]] == (0, True)

    in_lab(scene, tmp_path)
