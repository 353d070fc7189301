"""Two processes under one id, folders that are lost or shared, attempts that are forgotten.

Worker processes and a scheduler on a real Kafka; the tests on the benches write down when they run.
"""

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from events.codec import decode_report
from events.message import ReportMessage
from processors.audit.checkers import check_reports
from processors.worker.attempts import Attempts
from processors.worker.notes import Leftover
from processors.worker.state_dir import StateDir
from tests.integration.roles import Process, role
from tests.integration.small_lab import Scene, SmallLab

pytestmark = [pytest.mark.broker, pytest.mark.kill, pytest.mark.timeout(280)]

SPANS = 'echo "$TEO_BENCH begins" >> "$1"; sleep "$2"; echo "$TEO_BENCH ends" >> "$1"'
NO_CLAIM_S = 40.0
"""A life that is not heard of is lost after 10 s; the machine may be busy."""


@pytest.fixture
def play(play: Callable[[Scene], None]) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        async def judged(lab: SmallLab) -> None:
            await scene(lab)
            check_reports(await said(lab))

        play(judged)

    return run


async def said(lab: SmallLab) -> list[ReportMessage]:
    return [decode_report(record.value) for record in await lab.records(lab.topics.reports)]


def process(
    lab: SmallLab, folder: str, *flags: str, name: str = "w-1"
) -> AbstractContextManager[Process]:
    """Run a worker process, under the id that all but clones have, on a state folder."""
    (lab.folder / folder).mkdir(exist_ok=True)
    here = ("--kafka", lab.kafka, "--topic-prefix", lab.topics.prefix, "--artifacts")
    state = lab.folder / folder / "state"
    own = ("--id", name, "--pool", "lab", "--state-dir", str(state), "--slots", "8")
    return role(lab.folder / folder, "worker", *here, str(lab.folder / "kept"), *own, *flags)


async def worker(lab: SmallLab) -> dict[str, Any]:
    rows = await lab.items("/v1/workers?pool=lab")
    return next((row for row in rows if row["worker"] == "w-1"), {})


async def is_online(lab: SmallLab, *, other_than: str = "") -> dict[str, Any]:
    async def found() -> Any:
        row = await worker(lab)
        return row if row.get("state") == "online" and row["life"] != other_than else None

    row: dict[str, Any] = await lab.until(found, "the worker is online", NO_CLAIM_S)
    return row


async def benches(lab: SmallLab, *names: str) -> None:
    given = [{"name": name, "adapter": "local", "config": {}} for name in names]
    await lab.call("PUT", "/v1/pools/lab/benches", {"benches": given})


async def submit(lab: SmallLab, seconds: float, **more: Any) -> str:
    spans = str(lab.folder / "spans")
    run = {"command": ["sh", "-c", SPANS, "spans", spans, str(seconds)], "timeout_s": 120}
    return await lab.submit(run=run, **more)


def spans(lab: SmallLab) -> list[tuple[str, str]]:
    path = lab.folder / "spans"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines]


async def has_begun(lab: SmallLab, count: int) -> None:
    async def begun() -> bool:
        return len([word for _, word in spans(lab) if word == "begins"]) >= count

    await lab.until(begun, f"{count} tests have begun")


def one_at_a_time(lab: SmallLab) -> None:
    """On no bench a test began while another one ran."""
    going: set[str] = set()
    for bench, word in spans(lab):
        assert (word == "begins") != (bench in going), spans(lab)
        going ^= {bench}


def test_of_two_processes_under_one_id_one_serves_and_the_other_says_why_not(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1", "b-2")
        with process(lab, "first") as first, process(lab, "second") as second:
            online = await is_online(lab)
            names = [await submit(lab, 1.5) for _ in range(4)]
            ended = [await lab.finished(name) for name in names]
            assert [(e["verdict"], len(e["attempts"])) for e in ended] == [("passed", 1)] * 4
            one_at_a_time(lab)
            asked = {first.pid, second.pid}
            loser = second if f"(pid {first.pid})" in online["host"] else first
            row = await worker(lab)
            assert row["life"] == online["life"], "the one that had it kept it"
            assert f"(pid {loser.pid})" in row["refused"]["host"], asked
            assert await asyncio.to_thread(loser.wait) == 3, "it gave up"
            text = loser.log.read_text()
            assert f"on {online['host']}: choose another --id, or stop that one" in text
            assert loser.told("worker.refused") >= 2
            winner = first if loser is second else second
            winner.kill()
        with process(lab, "second"):
            await is_online(lab, other_than=online["life"])
            assert (await lab.finished(await submit(lab, 0.1)))["verdict"] == "passed"

    play(scene)


def test_a_worker_that_lost_its_folder_and_is_back_at_once_serves_again(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1", "b-2")
        with process(lab, "one") as killed:
            before = await is_online(lab)
            running, doomed = await submit(lab, 3), await submit(lab, 100)
            await has_begun(lab, 2)
            killed.kill()
        shutil.rmtree(lab.folder / "one" / "state")
        began_s = time.monotonic()
        with process(lab, "one"):
            await lab.call("DELETE", f"/v1/executions/{doomed}")
            again = await is_online(lab, other_than=before["life"])
            assert again["epoch"] > before["epoch"], "the log knows the epochs, not the folder"
            ended = await lab.finished(running)
            assert [a["code"] for a in ended["attempts"]][:1] == ["worker_lost"]
            assert (ended["verdict"], len(ended["attempts"])) == ("passed", 2)
            cancelled = await lab.finished(doomed)
            assert cancelled["verdict"] == "cancelled"
            assert time.monotonic() - began_s < 2 * NO_CLAIM_S

    play(scene)


def test_a_worker_on_a_copied_folder_leaves_alone_what_runs_in_the_other(play: Any) -> None:
    """Under an id of its own nobody keeps it waiting; the copy notes what the first one runs."""

    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1")
        with process(lab, "one"):
            await is_online(lab)
            running = await submit(lab, 8)
            await has_begun(lab, 1)
            state = lab.folder / "one" / "state" / "w-1"
            shutil.copytree(state, lab.folder / "two" / "state" / "w-2", symlinks=True)
            with process(lab, "two", name="w-2") as clone:

                async def has_looked() -> bool:
                    return clone.told("worker.leftover_torn_down") > 0

                await lab.until(has_looked, "the copy of the workspace is removed", NO_CLAIM_S)
                assert clone.told("worker.leftover_of_a_copy") == 1
                ended = await lab.finished(running)
            assert [(a["verdict"], a["code"]) for a in ended["attempts"]] == [("passed", "passed")]

    play(scene)


def test_started_again_on_its_folder_it_takes_over_at_once(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1")
        with process(lab, "one") as killed:
            before = await is_online(lab)
            killed.kill()
        with process(lab, "one") as again:
            await is_online(lab, other_than=before["life"])
            assert again.told("worker.refused") == 0
            assert (await worker(lab))["refused"] is None

    play(scene)


def test_one_folder_is_never_that_of_two_processes(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1")
        with process(lab, "one") as one:
            online = await is_online(lab)
            with process(lab, "one") as other:
                assert await asyncio.to_thread(other.wait) == 3
            text = other.log.read_text()
            assert f"in use by process {one.pid}: stop that one" in text
            assert (await lab.finished(await submit(lab, 0.1)))["verdict"] == "passed"
            assert (await worker(lab))["life"] == online["life"]

    play(scene)


def test_an_attempt_that_its_worker_forgot_ends_when_it_is_stopped_or_by_itself(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: SmallLab) -> None:
        forgotten: set[str] = set()
        take = Attempts.run

        def forget(self: Attempts, task: Any, meta: Any, *, lease_until: float) -> None:
            if task.attempt == 1 and task.execution_id not in forgotten:
                forgotten.add(task.execution_id)
            else:
                take(self, task, meta, lease_until=lease_until)

        monkeypatch.setattr(Attempts, "run", forget)
        await lab.benches("b-1", "b-2")
        lab.worker("w-1")
        await is_online(lab)
        stopped, alone = await lab.submit(), await lab.submit()

        async def both() -> bool:
            return {stopped, alone} <= forgotten

        await lab.until(both, "both are forgotten")
        began_s = time.monotonic()
        await lab.call("DELETE", f"/v1/executions/{stopped}")
        assert (await lab.finished(stopped))["verdict"] == "cancelled"
        ended = await lab.finished(alone)
        assert [a["code"] for a in ended["attempts"]] == ["attempt_unknown", "passed"]
        assert time.monotonic() - began_s < 2 * NO_CLAIM_S

    play(scene)


def test_a_worker_that_saw_higher_fences_stops_aloud(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await benches(lab, "b-1")
        state = StateDir(lab.folder / "one" / "state" / "w-1")
        seen = Leftover(
            execution_id="of another log",
            attempt=1,
            fence=50,
            bench="b-1",
            adapter="local",
            handle="{}",
            epoch=0,
            pool="lab",
            prefix=lab.topics.prefix,
        )
        state.remember(seen)
        state.forget(seen)
        with process(lab, "one") as one:
            name = await submit(lab, 0.1, retries=0)
            assert await asyncio.to_thread(one.wait) == 3
            text = one.log.read_text()
            assert one.told("worker.fence_fell") == 1
            assert "fence 1, and this worker saw fence 50" in text
            assert (await lab.finished(name))["code"] == "fence_fell"
            assert "lost facts" in (await worker(lab))["reason"]
        assert spans(lab) == [], "it was not run"
        with process(lab, "one") as again:
            assert await asyncio.to_thread(again.wait) == 3
        with process(lab, "one", "--forget-fences"):
            await is_online(lab)
            assert (await lab.finished(await submit(lab, 0.1)))["verdict"] == "passed"

    play(scene)
