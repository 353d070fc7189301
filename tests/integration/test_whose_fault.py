"""Whose fault it is, on a real Kafka and this machine: sick workers, askers, wrong benches."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Adapter, Allowed
from adapters.local import LocalAdapter
from events.codec import decode
from events.commands import SubmitExecution
from events.facts import AttemptFinished
from events.shared import RunSpec
from processors.scheduler import executions
from processors.scheduler.workers import FAULTS_MAX
from tests.chaos.disk import Disk
from tests.integration.small_lab import SmallLab
from tests.on_log import ask

pytestmark = [pytest.mark.broker, pytest.mark.timeout(280)]

RUNS = 40
BENCHES = tuple(f"b{number}" for number in range(4))


def local(state: Path) -> Mapping[str, Adapter]:
    return {"local": LocalAdapter(state / "local")}


async def apply(lab: SmallLab, *names: str, **config: Any) -> None:
    benches = [{"name": name, "adapter": "local", "config": config} for name in names]
    await lab.call("PUT", "/v1/pools/lab/benches", {"benches": benches})


async def bench_is(lab: SmallLab, name: str, state: str, words: str = "") -> dict[str, Any]:
    async def found() -> Any:
        row = await lab.call("GET", f"/v1/pools/lab/benches/{name}")
        return row if row["state"] == state and words in row["reason"] else None

    row: dict[str, Any] = await lab.until(found, f"{name} is {state}: {words}")
    return row


async def worker_is(lab: SmallLab, name: str, state: str) -> dict[str, Any]:
    async def found() -> Any:
        rows = await lab.items("/v1/workers?pool=lab")
        return next((row for row in rows if (row["worker"], row["state"]) == (name, state)), None)

    row: dict[str, Any] = await lab.until(found, f"worker {name} is {state}")
    return row


async def attempts(lab: SmallLab) -> list[AttemptFinished]:
    bodies = [decode(record.value).body for record in await lab.records(lab.topics.events)]
    return [each for each in bodies if isinstance(each, AttemptFinished)]


class Gone:
    """A state folder that is taken away, and brought back empty."""

    reason = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        shutil.rmtree(self._folder)

    def free(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def close(self) -> None:
        """Leave the rest to the test's folder."""


@pytest.fixture(params=[Gone, Disk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gone | Disk]:
    made = request.param(tmp_path / "workers" / "sick")
    if made.reason:
        pytest.skip(made.reason)
    yield made
    made.close()


def test_beside_a_healthy_worker_a_sick_one_fails_no_run(play: Any, disk: Gone | Disk) -> None:
    async def scene(lab: SmallLab) -> None:
        await apply(lab, *BENCHES)
        lab.worker("sick", adapters=local, slots=4)
        lab.worker("sound", adapters=local, slots=4)
        for name in BENCHES:
            await bench_is(lab, name, "idle")
        first = await lab.submit(run={"command": ["sleep", "0.1"]})
        assert (await lab.finished(first))["verdict"] == "passed"
        disk.fill()
        found = [
            await lab.submit(run={"command": ["sh", "-c", "sleep 0.1"]}, retries=0)
            for _ in range(RUNS)
        ]
        ended = [await lab.finished(each) for each in found]
        assert Counter(each["verdict"] for each in ended) == {"passed": RUNS}
        row = await worker_is(lab, "sick", "suspended")
        assert "bring it back" in row["reason"] or "free" in row["reason"]
        of_sick = [each for each in await attempts(lab) if each.fault]
        assert {each.worker for each in of_sick} <= {"sick"}
        assert {each.fault for each in of_sick} <= {"worker"}
        assert len(of_sick) <= FAULTS_MAX, "not 92 of 104"
        assert await lab.items("/v1/dead-letters") == []
        disk.free()
        await worker_is(lab, "sick", "online")

    play(scene)


def test_with_the_only_worker_sick_runs_wait_and_say_why(play: Any, disk: Gone | Disk) -> None:
    async def scene(lab: SmallLab) -> None:
        await apply(lab, *BENCHES)
        lab.worker("sick", adapters=local, slots=4)
        await bench_is(lab, "b0", "idle")
        disk.fill()
        found = [await lab.submit(run={"command": ["true"]}, retries=0) for _ in range(6)]
        await worker_is(lab, "sick", "suspended")
        await bench_is(lab, "b0", "offline", "worker sick is suspended")
        await asyncio.sleep(3.0)
        for each in found:
            waiting = await lab.call("GET", f"/v1/executions/{each}")
            assert waiting["status"] == "queued", waiting
            assert "b0 is offline (worker sick is s" in waiting["stuck"]
        disk.free()
        ended = [await lab.finished(each) for each in found]
        assert Counter(each["verdict"] for each in ended) == {"passed": 6}
        assert await lab.items("/v1/dead-letters") == []

    play(scene)


def test_a_worker_whose_own_faults_pile_up_is_resumed_by_an_operator(play: Any) -> None:
    """Its state folder works, and its machine can make no workspace."""

    async def scene(lab: SmallLab) -> None:
        await apply(lab, "b0")
        worker = lab.worker("w", adapters=local)
        await bench_is(lab, "b0", "idle")
        in_the_way = worker._settings.state_dir / "local"
        shutil.rmtree(in_the_way)
        in_the_way.write_text("a file where workspaces are to be")
        for _ in range(FAULTS_MAX):
            ended = await lab.finished(await lab.submit(retries=0))
            assert (ended["verdict"], ended["code"], ended["fault"]) == (
                "error",
                "no_workspace",
                "worker",
            )
        row = await worker_is(lab, "w", "suspended")
        assert "teo worker resume w" in row["reason"]
        await bench_is(lab, "b0", "offline", "is suspended")
        path = "/v1/pools/lab/workers/w/resume"
        await lab.call("POST", path, token="t-ann", status=403)
        in_the_way.unlink()
        resumed = await lab.call("POST", path, {"reason": "a file was in the way"})
        assert resumed["state"] == "online"
        assert (await lab.finished(await lab.submit(retries=0)))["verdict"] == "passed"
        again = await lab.call("POST", path, status=409)
        assert "not suspended" in again["detail"]

    play(scene)


def test_sixteen_mistakes_of_an_asker_cost_no_bench_and_leave_no_letter(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past a scheduler that knows less than the adapter, as one of an older version does."""
    monkeypatch.setattr(executions, "wrong_globs", lambda *_: None)

    async def scene(lab: SmallLab) -> None:
        await apply(lab, *BENCHES)
        lab.worker("w", adapters=local)
        for name in BENCHES:
            await bench_is(lab, name, "idle")
        run = RunSpec(
            command=("true",), env={}, timeout_s=60.0, junit=(), artifacts=("~/results/*",)
        )
        found = [f"exe-{number:032x}" for number in range(16)]
        for name in found:  # Past the API, which refuses what it knows to be wrong.
            body = SubmitExecution(
                execution_id=name, selector="", priority=0, retries=2, run=run, retries_on_failure=2
            )
            await ask(lab.log, lab.topics, f"c-{name}", body)
        for name in found:
            ended = await lab.finished(name)
            assert (ended["verdict"], ended["code"], ended["fault"], len(ended["attempts"])) == (
                "failed",
                "glob_refused",
                "asker",
                1,
            )
        for name in BENCHES:
            await bench_is(lab, name, "idle")
        assert await lab.items("/v1/dead-letters") == []
        results = [decode(record.value) for record in await lab.records(lab.topics.results)]
        assert {result.fault for result in results} == {"asker"}

    play(scene)


def test_a_bench_whose_config_is_refused_is_out_before_a_run_meets_it(
    play: Any, tmp_path: Path
) -> None:
    def giving(state: Path) -> Mapping[str, Adapter]:
        adapter = LocalAdapter(state / "local")
        adapter.allow(Allowed(folders=(tmp_path,)))
        return {"local": adapter}

    async def scene(lab: SmallLab) -> None:
        lab.worker("w", adapters=giving, check_again_s=1.0)
        await worker_is(lab, "w", "online")
        await apply(lab, "a", directry="/x")
        missing = tmp_path / "no" / "such"
        await apply(lab, "b", directory=str(missing))
        await bench_is(lab, "a", "offline", "refused by worker w: ")
        await bench_is(lab, "a", "offline", "directry")
        await bench_is(lab, "b", "offline", str(missing))
        waiting = await lab.submit(retries=0)
        assert (await lab.call("GET", f"/v1/executions/{waiting}"))["status"] == "queued"
        missing.mkdir(parents=True)
        ended = await lab.finished(waiting)
        assert (ended["verdict"], ended["bench"]) == ("passed", "b")
        await apply(lab, "a")
        await bench_is(lab, "a", "idle")

    play(scene)
