"""Workers on a real Kafka: one that is drained while it runs, and hundreds at once."""

import asyncio
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from events.codec import decode
from events.facts import WorkerDrained, WorkerGone
from tests.integration.small_lab import SmallLab

pytestmark = [pytest.mark.broker, pytest.mark.timeout(280)]

WORKERS = 200
STARTED_AT_ONCE = 20
MANY_S = 200.0


async def worker(lab: SmallLab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await lab.call("GET", f"/v1/pools/lab/workers/{name}")
    return found


async def is_in(lab: SmallLab, name: str, state: str) -> dict[str, Any]:
    async def found() -> Any:
        rows = await lab.items("/v1/workers?pool=lab")
        return next((r for r in rows if (r["worker"], r["state"]) == (name, state)), None)

    row: dict[str, Any] = await lab.until(found, f"worker {name} is {state}")
    return row


def test_a_worker_that_is_drained_ends_what_it_runs_and_leaves(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("bench-1", "bench-2", run={"delay_s": 8})
        lab.worker("w-1", slots=4)
        online = await is_in(lab, "w-1", "online")
        assert (online["epoch"], online["slots_used"], online["slots"]) == (1, 0, 4)
        running = await lab.submit(selector="n=bench-1")

        async def is_running() -> bool:
            found = await lab.call("GET", f"/v1/executions/{running}")
            return found["status"] == "running"

        await lab.until(is_running, "it runs")
        assert (await worker(lab, "w-1"))["slots_used"] == 1

        path = "/v1/pools/lab/workers/w-1/drain"
        await lab.call("POST", path, token="t-ann", status=403)
        drained = await lab.call("POST", path, {"reason": "new disk"})
        assert (drained["state"], drained["reason"]) == ("draining", "new disk")
        # It gets nothing more, although a bench of it is free and it has slots.
        waiting = await lab.submit(selector="n=bench-2")
        ended = await lab.finished(running)
        assert (ended["verdict"], len(ended["attempts"])) == ("passed", 1)
        gone = await is_in(lab, "w-1", "gone")
        assert (gone["slots_used"], gone["reason"]) == (0, "new disk")
        await asyncio.wait_for(lab.workers["w-1"][1], 30.0)
        found = await lab.call("GET", f"/v1/executions/{waiting}")
        assert (found["status"], found["attempts"]) == ("queued", [])
        again = await lab.call("POST", path, status=404)
        assert again["code"] == "no_such_worker"
        await lab.call("POST", "/v1/pools/lab/workers/nobody/drain", status=404)

        # Another one takes over; a new life of the drained one is a worker like any other.
        lab.worker("w-2")
        assert (await lab.finished(waiting))["attempts"][0]["worker"] == "w-2"
        del lab.workers["w-1"]
        lab.worker("w-1")
        back = await is_in(lab, "w-1", "online")
        assert (back["epoch"], back["reason"]) == (2, "")
        bodies = [decode(r.value).body for r in await lab.records(lab.topics.events)]
        said = [type(b) for b in bodies if isinstance(b, WorkerDrained | WorkerGone)]
        assert said[0] is WorkerDrained
        assert said.count(WorkerGone) == 1

    play(scene)


def test_a_process_ends_once_its_workers_of_all_pools_were_drained(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("bench-1", pool="lab")
        await lab.benches("bench-1", pool="attic")
        command = [sys.executable, "-m", "cli.main", "serve", "worker", "--id", "w"]
        pools = ["--pool", "lab", "--pool", "attic", "--state-dir", str(lab.folder / "w")]
        where = ["--kafka", lab.kafka, "--topic-prefix", lab.topics.prefix]
        process = await asyncio.create_subprocess_exec(
            *command, *pools, *where, "--artifacts", str(lab.folder / "artifacts"),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await is_in(lab, "w-lab", "online")
            await lab.call("POST", "/v1/pools/lab/workers/w-lab/drain")
            await is_in(lab, "w-lab", "gone")
            ended = await lab.finished(await lab.submit(pool="attic"))
            assert ended["attempts"][0]["worker"] == "w-attic"
            assert process.returncode is None
            await lab.call("POST", "/v1/pools/attic/workers/w-attic/drain")
            assert await asyncio.wait_for(process.wait(), 60) == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    play(scene)


def test_hundreds_of_workers_register_get_work_and_are_listed(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        names = [f"w-{number:03}" for number in range(WORKERS)]
        benches = [f"bench-{number:03}" for number in range(WORKERS)]
        await lab.benches(*benches)
        for number, (name, bench) in enumerate(zip(names, benches, strict=True)):
            # Patient ones: all of them share this one process with scheduler and API.
            lab.worker(name, benches=(bench,), slots=1, poll_s=5.0, append_timeout_s=5.0)
            if number % STARTED_AT_ONCE == STARTED_AT_ONCE - 1:
                await asyncio.gather(*[registered(lab, each) for each in names[: number + 1]])

        async def all_online() -> bool:
            rows = await lab.items("/v1/workers?state=online")
            return len(rows) == WORKERS

        await lab.until(all_online, "all are online", MANY_S)
        executions = [await lab.submit(selector=f"n={bench}") for bench in benches]
        ended = [await lab.finished(each) for each in executions]
        assert Counter(each["verdict"] for each in ended) == {"passed": WORKERS}
        assert sorted(each["attempts"][-1]["worker"] for each in ended) == names
        rows = await lab.items("/v1/workers?pool=lab")
        assert [row["worker"] for row in rows] == names
        assert {(row["slots_used"], row["benches"][0][-3:]) for row in rows} == {
            (0, bench[-3:]) for bench in benches
        }

    play(scene)


async def registered(lab: SmallLab, name: str) -> None:
    async def is_so() -> bool:
        return lab.workers[name][0].is_registered

    await lab.until(is_so, f"{name} is registered", MANY_S)
